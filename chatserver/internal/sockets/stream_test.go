package sockets_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// The mark does not wait for the next message, and a newcomer is not a slow client.
func TestMarkDoesNotWait(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.loop.SetNotice(0, []byte("status"))
	s.fill(400 << 10) // a piece has 8 KiB, and from about 20 pieces on the socket is full
	for i := range 11 {
		c := s.dial(fmt.Sprintf("/?last=%d", 4*i*i), 64<<10, notices)
		c.want("hello", "status")
		c.skipTo("live")
		c.conn.Close()
	}
	s.wantConns(0)
	if n := s.loop.Stats().BecameSlow; n != 0 {
		t.Errorf("a newcomer was slow %d times", n)
	}
}

// The mark comes between the frames before it and those after it, wherever it is.
func TestMark(t *testing.T) {
	for name, c := range map[string]struct {
		place sockets.Placement
		want  []string
	}{
		"before from": {sockets.Placement{From: 7, Mark: 5}, []string{"mark", "8", "10"}}, // older than the log when it is used
		"in a hole":   {sockets.Placement{From: 3, Mark: 7}, []string{"mark", "8", "10"}},
		"between":     {sockets.Placement{From: 2, Mark: 9}, []string{"2", "8", "mark", "10"}},
		"last":        {sockets.Placement{From: 0, Mark: 8, Last: true}, []string{"0", "2", "mark"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTCP(t, 1<<20)
			for _, offset := range []int64{0, 2, 8, 10} {
				s.log.Append(framelog.Position{Offset: offset}, text(fmt.Sprint(offset)), nil)
			}
			c.place.MarkFrames = text("mark")
			s.place = func(*framelog.Log) (sockets.Placement, bool) { return c.place, true }
			client := s.dial("/", 0)
			client.want(c.want...)
			if c.place.Last {
				client.wantClose(1000)
			}
		})
	}
}

// A connection is asked for its place until it has one. What the place says meanwhile is sent.
func TestPlaceLater(t *testing.T) {
	s := newTCP(t, 8<<20)
	long := strings.Repeat("x", 2<<20)
	var greet, placed atomic.Bool
	s.place = func(log *framelog.Log) (p sockets.Placement, ok bool) {
		if ok = placed.Load(); greet.Swap(false) { // before the log's end is asked for
			p.Hello = text(long)
		}
		_, end := log.Bounds()
		p.From, p.Mark, p.MarkFrames = end, end, text("live")
		return p, ok
	}
	sent := make(chan error, 9)
	s.read = func(c *sockets.Conn, m []byte) error { sent <- c.Send(m); return nil }
	c := s.dial("/", 128<<10, notices)
	c.say("too early") // nothing may go before the greeting
	<-sent
	s.loop.SetNotice(0, []byte("status"))
	time.Sleep(10 * time.Millisecond) // for what must not happen
	greet.Store(true)
	s.append("a pass that finds the socket full")
	c.want(long, "status", "too early")
	c.say("echo")
	c.want("echo")
	s.append("not for it")
	placed.Store(true)
	s.loop.Wake()
	c.want("live")
	s.append("for it")
	c.want("n:for it")
}

// A newcomer gets the newest of each notice. A reset moves clients with notices, and closes others.
func TestNoticesAndReset(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.append("old")
	raw, notified := s.join(0), s.join(0, notices)
	for _, n := range []string{"1: old", "0: new", "1: new"} {
		s.loop.SetNotice(int(n[0]-'0'), []byte(n))
		notified.want(n)
	}
	s.dial("/", 0, notices).want("hello", "0: new", "1: new", "live")
	s.log = framelog.New(1<<20, tracks, 100)
	s.log.Append(framelog.Position{Offset: 100}, text("new 0"), text("n:new 0"))
	for range 2 { // the second time it is no other log
		s.loop.Reset(s.log, []byte("reset"), "another log")
	}
	s.append("new 1")
	notified.want("reset", "n:new 0", "n:new 1")
	if reason := raw.wantClose(1013); reason != "another log" {
		t.Errorf("reason %q", reason)
	}
	s.dial("/?last=1", 0).want("hello", "new 1", "live")
}

// A message that nothing follows arrives at whatever moment. A client may join just before.
func TestNoWakeUpIsLost(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := newTCP(t, 1<<20)
	rng := rand.New(rand.NewPCG(6, 6))
	clients := []*client{s.join(0), s.join(0), s.join(0)}
	for round := range 10_000 * long {
		var joined *client
		if rng.IntN(50) == 0 {
			joined = s.dial("/?last=1", 0)
		} else if rng.IntN(4) == 0 {
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
	until(t, "all deliveries are counted, and no more", func() bool { return s.loop.Stats().Deliveries == int64(sent*len(clients)) })
}
