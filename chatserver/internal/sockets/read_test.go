package sockets_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A message has a time from its first header to its last byte, however it comes; between messages
// no time passes.
func TestMessageTime(t *testing.T) {
	const allowed = 300 * time.Millisecond
	long := strings.Repeat("x", 10<<10)
	message := f(opText|fin, long)
	repeat := func(frame []byte) [][]byte { return slices.Repeat([][]byte{frame}, 50) }
	for name, c := range map[string]struct {
		pieces     [][]byte
		pause      time.Duration
		unfinished bool
	}{
		"in time":                 {[][]byte{message[:5000], message[5000:]}, allowed / 10, false},
		"small, one by one":       {[][]byte{f(opText|fin, "a"), f(opText|fin, "b"), message}, allowed, false},
		"stops after the header":  {[][]byte{message[:8]}, 0, true},
		"stops after a fragment":  {[][]byte{f(opText, "a")}, 0, true},
		"byte by byte":            {slices.Collect(slices.Chunk(message[:200], 1)), allowed / 10, true},
		"fragment by fragment":    {append([][]byte{f(opText, "a")}, repeat(f(0, "a"))...), allowed / 10, true},
		"pings between fragments": {append([][]byte{f(opText, "a")}, repeat(f(opPing|fin, "a"))...), allowed / 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTCP(t, 1<<20)
			s.opts.MessageTime = allowed
			client := s.join(0)
			begun := time.Now()
			go func() {
				for _, piece := range c.pieces {
					if client.write(piece) != nil {
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
			if took := time.Since(begun); took < allowed || took > allowed+slack {
				t.Errorf("closed after %v", took)
			}
			if err := <-s.ended; !errors.Is(err, sockets.ErrUnfinished) {
				t.Error(err)
			}
		})
	}
}

// Whoever counts the bytes of messages that are being read is asked before a buffer grows, and can
// give the message up.
func TestGrow(t *testing.T) {
	s := newTCP(t, 1<<20)
	var asked atomic.Int64
	s.opts.Grow = func(bytes int) bool { return asked.Add(int64(bytes)) < 64<<10 }
	c := s.join(0)
	for length, want := range map[int][2]int64{400: {0, 0}, 20_000: {19_000, 40_000}} {
		asked.Store(0)
		c.say(strings.Repeat("x", length))
		c.next()
		if n := asked.Load(); n < want[0] || n > want[1] {
			t.Errorf("%d bytes for a message of %d", n, length)
		}
	}
	c.say(strings.Repeat("x", 100_000))
	if err := <-s.ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
