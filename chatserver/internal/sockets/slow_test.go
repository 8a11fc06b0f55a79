package sockets_test

import (
	"bytes"
	"context"
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

// Clients that never read are closed, and cost no more memory the more they did not read.
func TestClientsThatNeverRead(t *testing.T) {
	const logBytes, clients = 4 << 20, 20
	s := newTCP(t, logBytes)
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
	before := heap()
	for range 16 { // a quarter of a track's part of the log each time
		s.fill(logBytes / 8)
		if more := heap() - before; more > 2*logBytes {
			t.Errorf("%d bytes on the heap for a log of %d", more, logBytes)
		}
	}
	until(t, "all are closed", func() bool { return s.loop.Stats().FellBehind == clients && s.loop.Stats().Conns == 0 })
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

// Though the socket is full now and then, each frame is whole, and each kind of frame is in order.
func TestFramesAreWhole(t *testing.T) { newTCP(t, 32<<20).framesAreWhole(t) }

func TestFramesAreWholeWithDeadlines(t *testing.T) {
	s := newTCP(t, 32<<20)
	s.loop.WriteWithDeadlines()
	s.framesAreWhole(t)
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
			for i == 0 && s.loop.Stats().BecameSlow == 0 && t.Context().Err() == nil {
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
	var data, notice, echo, pong int
	for {
		if rng.IntN(200) == 0 {
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		var n int
		var sum uint32
		m := c.event()
		kind, rest, _ := strings.Cut(m, ":")
		ok := true
		switch kind {
		case "ping":
		case fmt.Sprint("pong ", pong):
			pong++
		case "text e":
			ok = rest == fmt.Sprint(echo)
			echo++
		case "text s":
			fmt.Sscan(rest, &n)
			ok = n > notice-20 // the two kinds are in order, each for itself
			notice = max(n, notice)
		default:
			if m == "text n:end" && data == messages {
				return nil
			}
			fmt.Sscanf(m, "text n:%d:%d:", &n, &sum)
			ok = n == data && sum == crc32.ChecksumIEEE([]byte(m[strings.LastIndexByte(m, ':')+1:]))
			data++
			reached.Store(int64(data))
		}
		if !ok {
			return fmt.Errorf("%.60q after %d messages, %d echoes, %d pongs, notice %d", m, data, echo, pong, notice)
		}
	}
}

// A silent peer is pinged, with the status if it gets notices; one that does not answer is dead.
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
	until(t, "one is dead", func() bool { return s.loop.Stats().Dead == 1 && s.loop.Stats().Conns == 2 })
}

func TestClockTicks(t *testing.T) {
	c := newTCP(t, 1<<20, time.Millisecond).join(0)
	for _, want := range []string{"ping", "ping", "end"} {
		c.wantEvent(want)
	}
}

// While its reader waits for Kafka, a peer is pinged, hears the status, and is not dead.
func TestWaitingIsNotSilence(t *testing.T) {
	s := newTCP(t, 1<<20)
	s.loop.SetNotice(0, []byte("down"))
	waits := make(chan struct{})
	kafka, answer := context.WithCancel(t.Context())
	s.read = func(*sockets.Conn, []byte) error { close(waits); <-kafka.Done(); return nil }
	c := s.dial("/", 0, notices)
	c.want("hello", "down", "live")
	c.say("publish")
	<-waits
	s.loop.Ticks(1 + 8*25) // three times what a silent peer has
	for range 8 {
		c.wantEvent("ping")
		c.wantEvent("text down")
	}
	answer()
	until(t, "it is taken for dead, since from now on the silence is its own", func() bool {
		s.loop.Ticks(60)
		return s.loop.Stats().Dead == 1
	})
}

// A slow peer whose socket takes something is neither given up nor pinged, and gets all at last.
func TestPeersThatTakeLittle(t *testing.T) {
	s := newTCP(t, 64<<20)
	c := s.join(64 << 10)
	long := strings.Repeat("x", 8<<20-10) // 8 MiB as a frame
	s.append(long)
	until(t, "the socket is full", func() bool { return s.loop.Stats().BecameSlow == 1 })
	s.fill(3 << 20) // more than a connection gets in a row
	s.append("the end")
	var got bytes.Buffer
	for range 8 { // each part is more than both kernels keep, and needs a write
		s.loop.Ticks(10) // together longer than a stuck or a silent peer has
		if _, err := io.CopyN(&got, c.r, 1<<20); err != nil {
			t.Fatalf("%v: %+v", err, s.loop.Stats())
		}
	}
	if !bytes.Equal(got.Bytes(), text(long)) {
		t.Error("something came between")
	}
	c.skipTo("the end")
}
