package sockets_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A message has a time from its first header to its last byte, however it comes; between messages
// no time passes.
func TestMessageTime(t *testing.T) {
	const limit = 300 * time.Millisecond
	long := strings.Repeat("x", 10<<10)
	for name, c := range map[string]struct {
		pieces     [][]byte
		pause      time.Duration
		unfinished bool
	}{
		"in time":                 {[][]byte{f(opText|fin, long)[:5000], f(opText|fin, long)[5000:]}, limit / 10, false},
		"small, one by one":       {[][]byte{f(opText|fin, "a"), f(opText|fin, "b"), f(opText|fin, long)}, limit, false},
		"stops":                   {[][]byte{f(opText|fin, long)[:9000]}, 0, true},
		"stops after the header":  {[][]byte{f(opText|fin, long)[:8]}, 0, true},
		"stops after a fragment":  {[][]byte{f(opText, "a")}, 0, true},
		"byte by byte":            {chop(f(opText|fin, long)[:200]), limit / 10, true},
		"fragment by fragment":    {slicesOf(f(0, "a"), f(opText, "a"), 50), limit / 10, true},
		"pings between fragments": {slicesOf(f(opPing|fin, "a"), f(opText, "a"), 50), limit / 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTCP(t, 1<<20)
			s.opts.MessageTime = limit
			ended := make(chan error, 1)
			s.ended = func(err error) { ended <- err }
			client := s.dial("/", 0)
			client.want("hello", "live")
			begun := time.Now()
			go func() {
				for _, piece := range c.pieces {
					if _, err := client.conn.Write(piece); err != nil {
						return
					}
					time.Sleep(c.pause)
				}
			}()
			if !c.unfinished {
				for client.next() != long {
				}
				return
			}
			client.wantClose(1013)
			if took := time.Since(begun); took < limit || took > limit+slack {
				t.Errorf("closed after %v", took)
			}
			if err := <-ended; !errors.Is(err, sockets.ErrUnfinished) {
				t.Error(err)
			}
		})
	}
}

func chop(b []byte) (pieces [][]byte) {
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}

// slicesOf returns the first piece, and then another n times.
func slicesOf(another, first []byte, n int) [][]byte {
	pieces := [][]byte{first}
	for range n {
		pieces = append(pieces, another)
	}
	return pieces
}

// Whoever counts the bytes of messages that are being read is asked before a buffer grows, and can
// give the message up.
func TestGrow(t *testing.T) {
	s := newTCP(t, 1<<20)
	var asked atomic.Int64
	s.opts.Grow = func(bytes int) bool { return asked.Add(int64(bytes)) < 64<<10 }
	ended := make(chan error, 1)
	s.ended = func(err error) { ended <- err }
	c := s.dial("/", 0)
	c.want("hello", "live")
	c.say(strings.Repeat("x", 400))
	c.next()
	if n := asked.Load(); n != 0 {
		t.Errorf("%d bytes for a small message", n)
	}
	for range 3 { // a buffer that has grown is not used again without being counted
		asked.Store(0)
		c.say(strings.Repeat("x", 20_000))
		c.next()
		if n := asked.Load(); n < 19_000 || n > 40_000 {
			t.Errorf("%d bytes for a message of 20,000", n)
		}
	}
	c.say(strings.Repeat("x", 100_000))
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A connection that is closed is not read from any more, in the middle of a message too.
func TestCloseInterruptsReader(t *testing.T) {
	s := newTCP(t, 1<<20)
	var conn atomic.Pointer[sockets.Conn]
	ended := make(chan error, 1)
	s.ended = func(err error) { ended <- err }
	s.read = func(c *sockets.Conn, m []byte) error { conn.Store(c); return c.Send(m) }
	c := s.dial("/", 0)
	c.want("hello", "live")
	c.say("first")
	c.want("first")
	c.conn.Write(f(opText|fin, strings.Repeat("x", 10_000))[:5000])
	begun := time.Now()
	conn.Load().Close(1013, "")
	<-ended
	if took := time.Since(begun); took > 500*time.Millisecond {
		t.Errorf("the reader went on for %v", took)
	}
	c.wantClose(1013)
}
