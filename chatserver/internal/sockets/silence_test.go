package sockets_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// The tests of silence use a shorter tick than the server.
func TestTimesOfSilence(t *testing.T) {
	l := sockets.NewLoop(framelog.New(1<<20, tracks, 0))
	if l.Tick() != time.Second || sockets.PingAfter != 25 || sockets.DeadAfter != 60 || sockets.StuckAfter != 32 {
		t.Errorf("a tick of %v, a ping after %d, dead after %d, stuck after %d", l.Tick(), sockets.PingAfter, sockets.DeadAfter, sockets.StuckAfter)
	}
}

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
	var pings, statuses, rawPings atomic.Int64
	readers.Go(func() {
		for {
			opcode, payload, err := living.frame()
			switch {
			case err != nil:
				return
			case opcode == opPing:
				pings.Add(1)
				living.send(opPong|fin, payload)
			case string(payload) == "up":
				statuses.Add(1)
			case string(payload) == "other" && pings.Load() > 0:
				t.Error("a ping brings more than the status")
			}
		}
	})
	readers.Go(func() {
		for {
			opcode, payload, err := raw.frame()
			switch {
			case err != nil:
				return
			case opcode == opPing:
				rawPings.Add(1)
				raw.send(opPong|fin, payload)
			case string(payload) == "up":
				t.Error("a status for a client without notices")
			}
		}
	})
	asked := 0
	for {
		opcode, _, err := dead.frame()
		if err != nil {
			break
		}
		if opcode == opPing {
			asked++
		}
	}
	if died := time.Since(begun); died < 30*tickTime || asked == 0 {
		t.Errorf("the silent peer was pinged %d times and ended after %v", asked, died)
	}
	until(t, "the others are pinged", func() bool { return pings.Load() > 5 && rawPings.Load() > 5 })
	until(t, "a status came with each ping", func() bool { return statuses.Load() >= pings.Load() })
	if stats := s.stats(); stats.Conns != 2 || stats.Dead != 1 {
		t.Errorf("%+v", stats)
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
	s.read = func(*sockets.Conn, []byte) error { <-release; return nil }
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
	if _, err := c.tryNext(); err != nil { // a status with the next ping: from now on the silence is its own
		t.Fatal(err)
	}
	for {
		if _, _, err := c.frame(); err != nil {
			break
		}
	}
	until(t, "it is taken for dead", func() bool { return s.stats().Dead == 1 && s.stats().Conns == 0 })
}

// A peer that takes no bytes is given up, however large the log is, and though it talks.
func TestPeersThatTakeNothing(t *testing.T) {
	t.Parallel()
	const tickTime = 20 * time.Millisecond
	s := newTCP(t, 64<<20, tick(tickTime))
	c := s.dial("/", 4096)
	c.want("hello", "live")
	begun := time.Now()
	s.append(strings.Repeat("x", 8<<20))
	for s.stats().Stuck == 0 {
		c.send(opPong|fin, nil)
		time.Sleep(tickTime)
		if time.Since(begun) > patience {
			t.Fatalf("%+v", s.stats())
		}
	}
	if took := time.Since(begun); took < 30*tickTime {
		t.Errorf("given up after %v", took)
	}
	until(t, "it is gone", func() bool { return s.stats().Conns == 0 })
}

// A slow peer is not given up as long as its socket takes something, and not pinged meanwhile.
func TestPeersThatTakeLittle(t *testing.T) {
	t.Parallel()
	s := newTCP(t, 64<<20, tick(20*time.Millisecond))
	c := s.dial("/", 64<<10)
	c.want("hello", "live")
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
	if took := time.Since(begun); took < 64*20*time.Millisecond {
		t.Errorf("took only %v", took)
	}
}
