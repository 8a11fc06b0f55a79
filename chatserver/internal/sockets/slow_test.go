package sockets_test

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// Clients that never read fall off the log's start and are closed; the memory that they cost does
// not depend on how much they did not read.
func TestClientsThatNeverRead(t *testing.T) {
	const logBytes, clients = 1 << 20, 20
	s := newTCP(t, logBytes)
	other := s.join(0)
	for range clients {
		s.join(4096)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first has left in pools
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most := heap(), int64(0)
	filling := strings.Repeat("x", 10<<10)
	for i := range 3000 { // 60 times the log
		m := fmt.Sprint(i, filling)
		s.append(m)
		other.want(m)
		if i%200 == 0 {
			most = max(most, heap()-before)
		}
	}
	s.wantConns(1)
	if stats := s.stats(); stats.FellBehind != clients {
		t.Errorf("%+v", stats)
	}
	if most > 2*logBytes {
		t.Errorf("%d bytes on the heap for a log of %d", most, logBytes)
	}
}

// A peer that talks and does not listen is not listened to: what waits for it is one frame.
func TestTalkersMustListen(t *testing.T) {
	s := newTCP(t, 1<<20)
	var taken atomic.Int64
	s.read = func(c *sockets.Conn, m []byte) error { taken.Add(1); return c.Send(m) }
	c := s.join(4096)
	m, n := f(opText|fin, strings.Repeat("x", 100<<10)), 0
	for err := error(nil); err == nil && n < 1000; n++ {
		c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = io.WriteString(c.conn, m)
	}
	if n > 500 || taken.Load() > 300 {
		t.Errorf("%d messages were taken from a peer that reads none, and %d from its socket", n, taken.Load())
	}
}

// While data, pongs, answers and notices flow through a small receive buffer, with the socket
// full now and then, each frame is whole, and each kind is in order.
func TestFramesAreWhole(t *testing.T) {
	t.Run("without waiting", func(t *testing.T) { newTCP(t, 32<<20).framesAreWhole(t) })
	t.Run("with deadlines", func(t *testing.T) {
		s := newTCP(t, 32<<20)
		s.loop.WriteWithDeadlines()
		s.framesAreWhole(t)
	})
}

func (s *server) framesAreWhole(t *testing.T) {
	const messages = 1000 * long
	var clients sync.WaitGroup
	var reached [4]atomic.Int64 // how many messages each client has
	for i := range reached {
		c := s.join(64<<10, notices)
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		clients.Go(func() { // one write may hold several frames, and half of one
			for n, err := 0, error(nil); err == nil; n++ {
				b := f(opPing|fin, fmt.Sprint(n)) + f(opText|fin, fmt.Sprint("e:", n))
				c.write(b[:len(b)/2])
				runtime.Gosched()
				err = c.write(b[len(b)/2:])
			}
		})
		clients.Go(func() {
			defer c.conn.Close()
			defer reached[i].Store(1 << 30)
			for i == 0 && s.stats().BecameSlow == 0 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond) // one socket becomes full in any case
			}
			if err := c.readAll(rng, messages, &reached[i]); err != nil {
				t.Error(err)
			}
		})
	}
	rng := rand.New(rand.NewPCG(9, 9))
	filling := strings.Repeat("0123456789", 10_000)
	for i := range messages {
		m := filling[:rng.IntN(1+rng.IntN(1+rng.IntN(len(filling))))]
		s.append(fmt.Sprintf("%d:%d:%s", i, crc32.ChecksumIEEE([]byte(m)), m))
		if i%10 == 0 {
			s.loop.SetNotice(i/10%2, fmt.Append(nil, "s:", i))
		}
		for r := range reached {
			until(t, "nobody is about to fall off the log", func() bool { return i-int(reached[r].Load()) <= 700 })
		}
	}
	s.append("end")
	clients.Wait()
}

// readAll reads until the message "end", sometimes slowly.
func (c *client) readAll(rng *rand.Rand, messages int, reached *atomic.Int64) error {
	var data, notice, echo, pong = 0, -1, 0, 0
	for {
		if rng.IntN(200) == 0 {
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		var n int
		var sum uint32
		ok := true
		m := c.event()
		switch {
		case m == "ping":
		case strings.HasPrefix(m, "pong "):
			ok = m == fmt.Sprint("pong ", pong)
			pong++
		case m == "text n:end":
			if data != messages {
				return fmt.Errorf("%d messages, want %d", data, messages)
			}
			return nil
		case strings.HasPrefix(m, "text e:"):
			ok = m == fmt.Sprint("text e:", echo)
			echo++
		case strings.HasPrefix(m, "text s:"):
			fmt.Sscanf(m, "text s:%d", &n)
			ok = n > notice-20 // the two kinds are in order, each for itself
			notice = max(n, notice)
		default:
			k, _ := fmt.Sscanf(m, "text n:%d:%d:", &n, &sum)
			ok = k == 2 && n == data && sum == crc32.ChecksumIEEE([]byte(m[strings.LastIndexByte(m, ':')+1:]))
			data++
			reached.Store(int64(data))
		}
		if !ok {
			return fmt.Errorf("%.60q after %d messages, %d echoes, %d pongs, notice %d", m, data, echo, pong, notice)
		}
	}
}
