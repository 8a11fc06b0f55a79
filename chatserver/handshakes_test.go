//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
)

const handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// storm opens n websockets and drops them all at once.
func (v *victim) storm(t *testing.T, n int) {
	conns := make([]net.Conn, n)
	var failed atomic.Int64
	inParallel(n, 64, func(i int) {
		c, err := net.DialTimeout("tcp", v.addr, patience)
		if err != nil {
			failed.Add(1)
			return
		}
		conns[i] = c
		text := handshake
		if i%2 == 0 {
			text += "Sec-WebSocket-Protocol: " + chat.Protocol + "\r\n"
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, text+"\r\n")
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 101" {
			failed.Add(1)
		}
	})
	if failed.Load() > 0 {
		t.Errorf("%d of %d did not get in", failed.Load(), n)
	}
	waitFor(t, "the crowd to be in", func() bool { return metric(t, v.admin, "chat_connections") >= float64(int64(n)-failed.Load()) })
	for _, c := range conns {
		if c != nil {
			drop(c)
		}
	}
	// But for the client that watches.
	waitFor(t, "the crowd to be gone", func() bool { return metric(t, v.admin, "chat_connections") <= 1 })
}

func (v *victim) hugeHeaders(t *testing.T, n int) {
	header := handshake + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"
	inParallel(n, 8, func(int) {
		c, err := net.DialTimeout("tcp", v.addr, patience)
		if err != nil {
			t.Error(err)
			return
		}
		defer drop(c)
		c.SetDeadline(time.Now().Add(patience))
		go io.WriteString(c, header)
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err == nil && string(answer) != "HTTP/1.1 431" {
			t.Errorf("answered with %q", answer)
		}
	})
}

// randomHandshakes sends handshakes with random faults, and things that are none.
func (v *victim) randomHandshakes(t *testing.T, n int) {
	const enough = 90 * time.Second // however slow the machine is
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	begun := time.Now()
	var done, answered atomic.Int64
	inParallel(n, 32, func(i int) {
		if time.Since(begun) > enough {
			return
		}
		done.Add(1)
		c, err := net.DialTimeout("tcp", v.addr, patience)
		if err != nil {
			t.Error(err)
			return
		}
		defer drop(c)
		c.SetDeadline(time.Now().Add(patience))
		c.Write(mutate(rand.New(rand.NewPCG(seed, uint64(i)))))
		c.(*net.TCPConn).CloseWrite()
		n, err := io.Copy(io.Discard, c)
		if n > 0 {
			answered.Add(1)
		}
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("handshake %d is neither answered nor closed", i)
		}
	})
	t.Logf("%d handshakes, %d were answered", done.Load(), answered.Load())
	if done.Load() < int64(n)/10 {
		t.Errorf("only %d handshakes in %v", done.Load(), enough)
	}
}

// mutate returns a handshake, with frames after it, that random has changed.
func mutate(random *rand.Rand) []byte {
	b := []byte(handshake + "\r\n\x81\x85\x01\x02\x03\x04iokho")
	switch random.IntN(8) {
	case 0: // noise
		b = make([]byte, random.IntN(2000))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	case 1: // frames before the answer, many of them
		for range random.IntN(50) {
			b = append(b, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()))
		}
	case 2: // a line twice, or without an end
		lines := strings.SplitAfter(string(b), "\r\n")
		at := random.IntN(len(lines))
		b = []byte(strings.Join(lines[:at], "") + strings.Repeat(lines[random.IntN(len(lines))], random.IntN(20)) + strings.Join(lines[at:], ""))
	case 3: // a query
		b = []byte(strings.Replace(string(b), "/ws", fmt.Sprintf("/ws?last=%d&after=%d.%08x", random.Int64(), random.Int64(), random.Uint32()), 1))
	}
	for range random.IntN(6) {
		switch at := random.IntN(len(b) + 1); random.IntN(3) {
		case 0:
			b = b[:at]
		case 1:
			b = append(b[:at:at], append([]byte{byte(random.Uint32())}, b[at:]...)...)
		case 2:
			if at < len(b) {
				b[at] ^= 1 << random.IntN(8)
			}
		}
	}
	return b
}

// drop closes a connection with a reset, which leaves nothing of it in this machine.
func drop(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// inParallel runs do for 0 to n-1, some at a time.
func inParallel(n, workers int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}
