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
	const allowed = time.Second // the pieces come so much faster that the pauses between them are no reason
	s := newTCP(t, 1<<20)
	s.opts.MessageTime = allowed
	cases := map[string]struct{ begin, more string }{
		"stops after the header":  {promised(limit), ""},
		"byte by byte":            {promised(limit), "x"},
		"fragment by fragment":    {f(opText, "a"), f(0, "a")},
		"pings between fragments": {f(opText, "a"), f(opPing|fin, "a")},
	}
	clients := make(map[string]*client)
	for name := range cases {
		clients[name] = s.join(0)
		clients[name].say("whole")
		clients[name].want("whole")
	}
	time.Sleep(allowed)
	begun := time.Now()
	for name, c := range cases {
		go func() {
			for err := clients[name].write(c.begin); err == nil; err = clients[name].write(c.more) {
				time.Sleep(allowed / 100)
			}
		}()
	}
	for name, client := range clients {
		client.wantClose(1013)
		if took := time.Since(begun); took < allowed {
			t.Errorf("%s: closed after %v", name, took)
		}
		if err := <-s.ended; !errors.Is(err, sockets.ErrUnfinished) {
			t.Error(err)
		}
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
