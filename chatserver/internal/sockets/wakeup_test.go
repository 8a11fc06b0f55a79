package sockets_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

// One message, then silence: the message arrives, at whatever moment it comes. A client may join
// just before.
func TestNoWakeUpIsLost(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := newTCP(t, 1<<20)
	rng := rand.New(rand.NewPCG(6, 6))
	clients := []*client{s.join(0), s.join(0), s.join(0)}
	for round := range 10_000 * long {
		var joined *client
		switch event := rng.IntN(400); {
		case event < 8:
			joined = s.dial("/?last=1", 0)
		case event < 100:
			runtime.Gosched()
		}
		m := fmt.Sprint(round)
		s.append(m)
		for _, c := range clients {
			c.want(m)
		}
		if joined != nil {
			joined.skipTo(m)
			joined.conn.Close()
		}
	}
}

// Nothing is allocated for a delivery, nor for a message beyond what the log grows by.
func TestDeliveriesDoNotAllocate(t *testing.T) {
	s := newTCP(t, 1<<20)
	var clients []*client
	for i := range 20 {
		clients = append(clients, s.join(0, []string{"X-Nothing: 1", notices}[i%2]))
	}
	frames := [][]byte{text(strings.Repeat("x", 100)), text("n:" + strings.Repeat("x", 100))}
	var buf [200]byte
	sent := 0
	n := testing.AllocsPerRun(2000, func() {
		s.appendFrames(frames...)
		sent++
		for i, c := range clients {
			c.conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(c.r, buf[:len(frames[i%2])]); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a message to %d clients", n, len(clients))
	}
	until(t, "all deliveries are counted, and no more", func() bool { return s.stats().Deliveries == int64(sent*len(clients)) })
}
