package sockets_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// One message, then silence: it arrives, at whatever moment it comes. Before each there may be
// a client that joins, or one that makes its socket full, or is just being asked again.
func TestNoWakeUpIsLost(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	rounds := 10_000 * long
	s := newTCP(t, 64<<20) // nobody falls off its start
	rng := rand.New(rand.NewPCG(6, 6))
	filled := 0

	// Steady clients have every message at once, choppy ones at the latest when they are asked.
	steady := []*counter{count(s.join(0)), count(s.join(0)), count(s.join(0))}
	choppy := []*counter{count(s.join(64 << 10)), count(s.join(64 << 10))}
	var sent int64 // bytes of all messages as frames
	send := func(payload string) {
		s.appendFrames(text(payload), nil)
		sent += int64(len(text(payload)))
	}
	wait := func(counters ...*counter) {
		for _, c := range counters {
			c.wait(sent)
		}
	}
	for round := range rounds {
		var joined *client
		switch event := rng.IntN(400); {
		case event < 8:
			joined = s.dial("/?last=1", 0)
		case event < 12: // fill a socket, then have it emptied
			c := choppy[rng.IntN(len(choppy))]
			wait(c)
			filled++
			c.pause.Store(true)
			for range 8 {
				send(strings.Repeat("x", 64<<10))
			}
			wait(steady...)
			c.goOn()
		case event < 16:
			time.Sleep(time.Duration(rng.IntN(25_000)) * time.Microsecond) // full sockets are asked again about now
		case event < 100:
			runtime.Gosched()
		}
		m := fmt.Sprint(round)
		send(m)
		wait(steady...)
		if joined != nil {
			joined.skipTo(m)
			joined.conn.Close()
		}
		if rng.IntN(100) == 0 {
			wait(choppy...)
		}
	}
	wait(choppy...)
	if stats := s.stats(); filled == 0 || stats.BecameSlow < int64(filled) || stats.FellBehind > 0 {
		t.Errorf("%+v: %d times a socket was to become full, but nobody to fall behind", stats, filled)
	}
}

// A counter counts the bytes that a client receives after its greeting, without allocating.
type counter struct {
	*client
	got     atomic.Int64
	arrived chan struct{} // capacity 1: got has changed; closed when nothing more comes
	pause   atomic.Bool
	goes    chan struct{}
}

func count(c *client) *counter {
	n := &counter{client: c, arrived: make(chan struct{}, 1), goes: make(chan struct{}, 1)}
	n.got.Store(int64(c.r.Buffered()))
	go func() {
		defer close(n.arrived)
		buf := make([]byte, 64<<10)
		for err := error(nil); err == nil; {
			if n.pause.Load() {
				<-n.goes
			}
			n.conn.SetReadDeadline(time.Now().Add(patience))
			var k int
			k, err = n.conn.Read(buf)
			n.got.Add(int64(k))
			signal(n.arrived)
		}
	}()
	c.t.Cleanup(n.goOn)
	return n
}

func (n *counter) goOn() {
	n.pause.Store(false)
	signal(n.goes)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wait waits until so many bytes have come.
func (n *counter) wait(bytes int64) {
	for n.got.Load() < bytes {
		if _, open := <-n.arrived; !open {
			n.t.Fatalf("a client has %d of %d bytes", n.got.Load(), bytes)
		}
	}
}

// Nothing is allocated for a delivery, nor for a message beyond what the log grows by.
func TestDeliveriesDoNotAllocate(t *testing.T) {
	const clients = 20
	s := newTCP(t, 1<<20)
	var counters []*counter
	for i := range clients {
		counters = append(counters, count(s.join(0, []string{"X-Nothing: 1", notices}[i%2])))
	}
	frames := [][]byte{text(strings.Repeat("x", 100)), text("n:" + strings.Repeat("x", 100))}
	sent := int64(0)
	n := testing.AllocsPerRun(2000, func() {
		s.appendFrames(frames...)
		sent++
		for i, c := range counters {
			c.wait(sent * int64(len(frames[i%2])))
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a message to %d clients", n, clients)
	}
	until(t, "all deliveries are counted, and no more", func() bool { return s.stats().Deliveries == sent*clients })
}
