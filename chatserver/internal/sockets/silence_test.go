package sockets_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A silent peer is pinged, with the current status if it gets notices; one that does not answer is
// taken for dead.
func TestPeersArePinged(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.loop.SetNotice(0, []byte("up"))
	s.loop.SetNotice(1, []byte("other"))
	living, dead, raw := s.dial("/", 0, notices), s.dial("/", 0, notices), s.join(0)
	living.want("hello", "up", "other", "live")
	dead.want("hello", "up", "other", "live")
	for range 4 { // together longer than a dead peer has
		for _, c := range []*client{living, raw} {
			c.say("here") // when the answer comes, the server has heard of the client
			c.wantEvent("text here")
		}
		s.loop.Ticks(26)
		living.wantEvent("ping")
		living.wantEvent("text up")
		raw.wantEvent("ping")
	}
	for _, want := range []string{"ping", "text up", "ping", "text up", "end"} {
		dead.wantEvent(want)
	}
	until(t, "one is dead", func() bool { return s.stats().Dead == 1 && s.stats().Conns == 2 })
}

func TestClockTicks(t *testing.T) {
	c := newTCP(t, 1<<20, time.Millisecond).join(0)
	for _, want := range []string{"ping", "ping", "end"} {
		c.wantEvent(want)
	}
}

// While the reader waits for Kafka it reads no pongs, so the silence is not the peer's; the peer
// goes on being pinged, and hears the status.
func TestWaitingIsNotSilence(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.loop.SetNotice(0, []byte("down"))
	waits, release := make(chan struct{}), make(chan struct{})
	s.read = func(c *sockets.Conn, _ []byte) error {
		close(waits)
		select {
		case <-release:
		case <-c.Context().Done():
		}
		return nil
	}
	c := s.dial("/", 0, notices)
	c.want("hello", "down", "live")
	c.say("publish")
	<-waits
	s.loop.Ticks(1 + 8*25) // three times what a silent peer has
	for range 8 {
		c.wantEvent("ping")
		c.wantEvent("text down")
	}
	close(release)
	until(t, "it is taken for dead, since from now on the silence is its own", func() bool {
		s.loop.Ticks(60)
		return s.stats().Dead == 1
	})
}

// A slow peer is not given up as long as its socket takes something, and not pinged meanwhile. Then it
// gets all that has come, though nothing more comes.
func TestPeersThatTakeLittle(t *testing.T) {
	s := newTCP(t, 64<<20)
	c := s.join(64 << 10)
	long := strings.Repeat("x", 8<<20)
	s.append(long)
	until(t, "the socket is full", func() bool { return s.stats().BecameSlow == 1 })
	s.fill(3 << 20) // more than a connection gets in a row
	s.append("the end")
	want := text(long)
	got := make([]byte, len(want))
	for part := range slices.Chunk(got, len(got)/8) { // more than both kernels keep, so each needs a write
		s.loop.Ticks(10) // together longer than a stuck or a silent peer has
		if n, err := io.ReadFull(c.r, part); err != nil {
			t.Fatalf("%v after %d bytes: %+v", err, n, s.stats())
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("something came between")
	}
	c.skipTo("the end")
}
