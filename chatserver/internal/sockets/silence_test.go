package sockets_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A silent peer is pinged, with the current status if it gets notices; one that does not answer is
// taken for dead.
func TestPeersArePinged(t *testing.T) {
	t.Parallel()
	const tickTime = 10 * time.Millisecond
	s := newTCP(t, 1<<20, tick(tickTime))
	s.loop.SetNotice(0, []byte("up"))
	s.loop.SetNotice(1, []byte("other"))
	living, dead, raw := s.dial("/", 0, notices), s.dial("/", 0, notices), s.dial("/", 0)
	begun := time.Now()
	var readers sync.WaitGroup
	answer := func(c *client, pings, statuses *atomic.Int64) {
		for {
			opcode, payload, err := c.frame()
			switch {
			case err != nil:
				return
			case opcode == opPing:
				pings.Add(1)
				c.send(opPong|fin, payload)
			case string(payload) == "up":
				statuses.Add(1)
			case string(payload) == "other" && pings.Load() > 0:
				t.Error("a ping brings more than the status")
			}
		}
	}
	var pings, statuses, rawPings, rawStatuses atomic.Int64
	readers.Go(func() { answer(living, &pings, &statuses) })
	readers.Go(func() { answer(raw, &rawPings, &rawStatuses) })
	asked := 0
	for err := error(nil); err == nil; {
		var opcode int
		if opcode, _, err = dead.frame(); opcode == opPing {
			asked++
		}
	}
	if died := time.Since(begun); died < 30*tickTime || asked != 2 {
		t.Errorf("the silent peer was pinged %d times and ended after %v", asked, died)
	}
	until(t, "the others are pinged", func() bool { return pings.Load() > 5 && rawPings.Load() > 5 })
	until(t, "a status came with each ping", func() bool { return statuses.Load() >= pings.Load() })
	if stats := s.stats(); stats.Conns != 2 || stats.Dead != 1 || rawStatuses.Load() > 0 {
		t.Errorf("%+v, and %d statuses for a client without notices", stats, rawStatuses.Load())
	}
	living.conn.Close()
	raw.conn.Close()
	readers.Wait()
}

// While the reader waits for Kafka it reads no pongs, so the silence is not the peer's; the peer
// goes on being pinged, and hears the status.
func TestWaitingIsNotSilence(t *testing.T) {
	t.Parallel()
	s := newTCP(t, 1<<20, tick(5*time.Millisecond))
	s.loop.SetNotice(0, []byte("down"))
	release := make(chan struct{})
	s.read = func(c *sockets.Conn, _ []byte) error {
		select {
		case <-release:
		case <-c.Context().Done():
		}
		return nil
	}
	c := s.dial("/", 0, notices)
	c.say("publish")
	for pings := 0; pings < 8; { // three times what a silent peer has
		opcode, _, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		if opcode == opPing {
			pings++
			c.want("down")
		}
	}
	close(release)
	for err := error(nil); err == nil; { // from now on the silence is its own
		_, _, err = c.frame()
	}
	until(t, "it is taken for dead", func() bool { return s.stats().Dead == 1 && s.stats().Conns == 0 })
}

// A slow peer is not given up as long as its socket takes something, and not pinged meanwhile.
func TestPeersThatTakeLittle(t *testing.T) {
	t.Parallel()
	const tickTime = 20 * time.Millisecond
	s := newTCP(t, 64<<20, tick(tickTime))
	c := s.join(64 << 10)
	long := strings.Repeat("x", 4<<20)
	s.append(long)
	begun := time.Now()
	buf := make([]byte, 64<<10)
	for got := 0; got < len(long)-(1<<20); { // longer than a silent or a stuck peer has
		n, err := c.r.Read(buf)
		if err != nil {
			t.Fatalf("%v after %d bytes and %v: %+v", err, got, time.Since(begun), s.stats())
		}
		got += n
		time.Sleep(time.Duration(n) * 2 * time.Second / time.Duration(len(long)))
	}
	if took := time.Since(begun); took < 64*tickTime {
		t.Errorf("took only %v", took)
	}
}
