package sockets_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
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

	// Steady clients have every message at once, choppy ones at the latest when they are asked.
	steady := []*counter{count(s.join(0)), count(s.join(0)), count(s.join(0))}
	choppy := []*counter{count(s.join(64 << 10)), count(s.join(64 << 10))}
	var sent int64 // bytes of all messages as frames
	send := func(payload string) {
		s.appendFrames(text(payload), nil)
		sent += int64(len(text(payload)))
	}
	wait := func(counters []*counter) {
		for _, c := range counters {
			if !c.wait(sent) {
				t.Fatalf("a client has %d of %d bytes: %+v", c.got.Load(), sent, s.stats())
			}
		}
	}
	for round := range rounds {
		var joined *client
		switch event := rng.IntN(400); {
		case event < 8:
			joined = s.dial("/?last=1", 0)
		case event < 12: // fill a socket, then have it emptied
			c := choppy[rng.IntN(len(choppy))]
			c.pause.Store(true)
			for range 8 {
				send(strings.Repeat("x", 64<<10))
			}
			wait(steady)
			c.goOn()
		case event < 16:
			time.Sleep(time.Duration(rng.IntN(25_000)) * time.Microsecond) // full sockets are asked again about now
		case event < 100:
			runtime.Gosched()
		}
		if round%1000 == 0 {
			for _, c := range slices.Concat(steady, choppy) {
				c.live()
			}
		}
		m := fmt.Sprint(round)
		send(m)
		wait(steady)
		if joined != nil {
			for joined.next() != m {
			}
			joined.conn.Close()
		}
		if rng.IntN(100) == 0 {
			wait(choppy)
		}
	}
	wait(choppy)
	if stats := s.stats(); stats.BecameSlow < int64(rounds/200) || stats.FellBehind > 0 {
		t.Errorf("%+v: sockets were to become full, but nobody to fall behind", stats)
	}
}

// A counter counts the bytes that a client receives after its greeting, without allocating.
type counter struct {
	conn    net.Conn
	got     atomic.Int64
	arrived chan struct{} // capacity 1: got has changed
	pause   atomic.Bool
	goes    chan struct{}
}

func count(c *client) *counter {
	n := &counter{conn: c.conn, arrived: make(chan struct{}, 1), goes: make(chan struct{}, 1)}
	n.got.Store(int64(c.r.Buffered()))
	c.conn.SetReadDeadline(time.Time{})
	n.live()
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 64<<10)
		for err := error(nil); err == nil; {
			if n.pause.Load() {
				<-n.goes
			}
			var k int
			k, err = n.conn.Read(buf)
			n.got.Add(int64(k))
			signal(n.arrived)
		}
	})
	c.t.Cleanup(func() {
		n.goOn()
		n.conn.Close()
		reading.Wait()
	})
	return n
}

// live shows that the client is alive, so that it is not pinged.
func (n *counter) live() { n.conn.Write(masked(opPong|fin, nil)) }

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

// wait says whether so many bytes have come in time.
func (n *counter) wait(bytes int64) bool {
	for n.got.Load() < bytes {
		select {
		case <-n.arrived:
		case <-time.After(patience):
			return false
		}
	}
	return true
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
			for want := sent * int64(len(frames[i%2])); c.got.Load() < want; {
				<-c.arrived
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a message to %d clients", n, clients)
	}
	if deliveries := s.stats().Deliveries; deliveries != sent*clients {
		t.Errorf("%d deliveries, want %d", deliveries, sent*clients)
	}
}
