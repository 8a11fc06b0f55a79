package sockets_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A client that is too slow keeps nobody waiting, misses nothing, and is as fast as the others when it
// has caught up.
func TestSlowClientCatchesUp(t *testing.T) {
	t.Parallel()
	for name, writer := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTCP(t, 64<<20, writer)
			slow, other := s.dial("/", 64<<10), s.dial("/", 0)
			slow.want("hello", "live")
			other.want("hello", "live")
			var all []string
			say := func(m string) { other.want(m); all = append(all, m) }
			s.makeSlow(say)
			for range 20 {
				m := strings.Repeat("y", 100<<10)
				s.append(m)
				say(m)
			}
			const echo = "echo while slow"
			slow.say(echo)
			echoed := false
			for i := 0; i < len(all) || !echoed; {
				switch m := slow.next(); {
				case m == echo && !echoed:
					echoed = true
				case i < len(all) && m == all[i]:
					i++
				default:
					t.Fatalf("message %d is %.50q", i, m)
				}
			}
			until(t, "it has caught up", func() bool { return s.stats().Slow == 0 })
			s.append("now")
			slow.want("now")
			other.want("now")
			if stats := s.stats(); stats.BecameSlow == 0 || stats.Conns != 2 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// Clients that never read fall off the log's start and are closed; the memory that they cost does
// not depend on how much they did not read.
func TestClientsThatNeverRead(t *testing.T) {
	noLeaks(t)
	const logBytes, clients = 1 << 20, 20
	s := newTCP(t, logBytes)
	other := s.dial("/", 0)
	other.want("hello", "live")
	var stuck []*client
	for range clients {
		c := s.dial("/", 4096)
		c.want("hello", "live")
		stuck = append(stuck, c)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first has left in pools
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	filling := strings.Repeat("x", 10<<10)
	most := int64(0)
	for i := range 3000 { // 60 times the log
		m := fmt.Sprint(i, filling)
		s.append(m)
		other.want(m)
		if i%200 == 0 {
			most = max(most, heap()-before)
		}
	}
	until(t, "they are closed", func() bool { return s.stats().Conns == 1 })
	if stats := s.stats(); stats.FellBehind != clients || stats.Slow != 0 {
		t.Errorf("%+v", stats)
	}
	t.Logf("%d bytes at most, with a log of %d", most, logBytes)
	if most > 2*logBytes {
		t.Errorf("%d bytes on the heap for a log of %d", most, logBytes)
	}
	for _, c := range stuck {
		c.conn.Close()
	}
	other.conn.Close()
	until(t, "all are gone", func() bool { return s.stats().Conns == 0 })
	s.http.Close()
	s.stop()
}

// A peer that talks and does not listen is not listened to: what waits for it is one frame.
func TestTalkersMustListen(t *testing.T) {
	s := newTCP(t, 1<<20)
	var taken atomic.Int64
	s.read = func(c *sockets.Conn, m []byte) error { taken.Add(1); return c.Send(m) }
	c := s.dial("/", 4096)
	c.want("hello", "live")
	m := strings.Repeat("m", 100<<10)
	wrote := make(chan int)
	go func() {
		n := 0
		for ; n < 1000; n++ {
			c.conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.conn.Write(masked(opText|fin, []byte(m))); err != nil {
				break
			}
		}
		wrote <- n
	}()
	n := <-wrote
	t.Logf("%d messages went into the buffers of the system, %d were read", n, taken.Load())
	if n > 500 || taken.Load() > 300 {
		t.Errorf("%d messages were taken from a peer that reads none", taken.Load())
	}
}

// While data, pongs, answers and notices flow through a small receive buffer, with the socket
// full now and then, each frame is whole, and each kind is in order.
func TestFramesAreWhole(t *testing.T) {
	for name, writer := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTCP(t, 32<<20, writer)
			const messages = 1000 * long
			var clients, writers sync.WaitGroup
			var reached [4]atomic.Int64 // how many messages each client has
			for i := range reached {
				c := s.dial("/", 64<<10, notices)
				c.want("hello", "live")
				rng := rand.New(rand.NewPCG(uint64(i), 5))
				var stop atomic.Bool
				writers.Go(func() { // one write may hold several frames, and half of one
					for n := 0; !stop.Load(); n++ {
						c.conn.SetWriteDeadline(time.Now().Add(patience))
						b := append(masked(opPing|fin, fmt.Append(nil, n)), masked(opText|fin, fmt.Append(nil, "e:", n))...)
						c.conn.Write(b[:len(b)/2])
						runtime.Gosched()
						c.conn.Write(b[len(b)/2:])
					}
				})
				clients.Go(func() {
					defer stop.Store(true)
					defer reached[i].Store(1 << 30)
					c.readAll(rng, messages, &reached[i])
				})
			}
			rng := rand.New(rand.NewPCG(9, 9))
			filling := strings.Repeat("0123456789", 10_000)
			for i := range messages {
				m := filling[:rng.IntN(1+rng.IntN(1+rng.IntN(len(filling))))]
				m = fmt.Sprintf("%d:%d:%s", i, crc32.ChecksumIEEE([]byte(m)), m)
				s.append(m)
				if i%10 == 0 {
					s.loop.SetNotice(sockets.Notice(i/10%2), fmt.Append(nil, "s:", i))
				}
				until(t, "nobody is about to fall off the log", func() bool {
					for r := range reached {
						if i-int(reached[r].Load()) > 700 {
							return false
						}
					}
					return true
				})
			}
			s.append("end")
			clients.Wait()
			s.drain()
			writers.Wait()
			t.Logf("%+v", s.stats())
			if n := s.stats().BecameSlow; n == 0 {
				t.Error("no socket became full")
			}
		})
	}
}

// readAll reads until the message "end", sometimes slowly.
func (c *client) readAll(rng *rand.Rand, messages int, reached *atomic.Int64) {
	var data, notice, echo, pong = 0, -1, 0, 0
	for {
		if rng.IntN(200) == 0 {
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		c.conn.SetReadDeadline(time.Now().Add(patience))
		opcode, payload, err := c.frame()
		if err != nil {
			c.t.Error(err)
			return
		}
		m := string(payload)
		switch {
		case opcode == opPong:
			if m != fmt.Sprint(pong) {
				c.t.Errorf("pong %q, want %d", m, pong)
				return
			}
			pong++
		case opcode == opPing:
		case m == "n:end":
			if data != messages {
				c.t.Errorf("%d messages, want %d", data, messages)
			}
			return
		case strings.HasPrefix(m, "e:"):
			if m != fmt.Sprint("e:", echo) {
				c.t.Errorf("echo %q, want %d", m, echo)
				return
			}
			echo++
		case strings.HasPrefix(m, "s:"):
			n := 0
			fmt.Sscanf(m, "s:%d", &n)
			if n <= notice-20 { // the two kinds are in order, each for itself
				c.t.Errorf("notice %d after %d", n, notice)
				return
			}
			notice = max(n, notice)
		default:
			var n int
			var sum uint32
			if k, _ := fmt.Sscanf(m, "n:%d:%d:", &n, &sum); k != 2 || n != data || sum != crc32.ChecksumIEEE(payload[strings.LastIndexByte(m, ':')+1:]) {
				c.t.Errorf("message %d: %.60q", data, m)
				return
			}
			data++
			reached.Store(int64(data))
		}
	}
}
