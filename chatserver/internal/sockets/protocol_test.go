package sockets_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/sockets"
)

// A protocolCase is what a client sends, and what an echo server has to answer by RFC 6455: messages,
// pongs, and at last "open" (the connection still works), "close CODE" (a close frame), or "end".
type protocolCase struct {
	name, send string
	want       []string
}

// promised is the head of a text frame whose length is n, and the beginning of its payload.
func promised(n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{opText | fin, 0x80 | 127}, n)) + "\x00\x00\x00\x00hello"
}

func closing(code int, reason string) string {
	return f(opClose|fin, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// fragments cuts a text message into frames with n bytes each.
func fragments(payload string, n int) (send string) {
	op := byte(opText)
	for ; len(payload) > n; payload = payload[n:] {
		send += f(op, payload[:n])
		op = 0
	}
	return send + f(op|fin, payload)
}

func protocolCases() (cases []protocolCase) {
	add := func(name, send string, want ...string) { cases = append(cases, protocolCase{name, send, want}) }
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, n := range []int{0, 125, 126, 65535, 65536, limit} {
		add(fmt.Sprintf("text of %d bytes", n), f(opText|fin, x(n)), "text "+x(n), "open")
	}
	add("binary", f(opBin|fin, x(65536)), "close 1003")
	add("ping with 125 bytes", f(opPing|fin, "\x00\xff"+x(123)), "pong \x00\xff"+x(123), "open")
	add("ping with 126 bytes", f(opPing|fin, x(126)), "close 1002")
	add("pong, then pings", f(opPong|fin, "unasked")+f(opPing|fin, "p")+f(opPing|fin, "q"), "pong p", "pong q", "open")
	add("reserved bit", f(opText|fin, "ok")+f(fin|0x40|opText, "x")+f(opPing|fin, ""), "text ok", "close 1002")
	add("reserved opcode", f(fin|11, ""), "close 1002")
	add("ping in two fragments", f(opPing, "a")+f(fin, "b"), "close 1002")
	add("empty fragments", f(opText, "")+f(0, "")+f(fin, ""), "text ", "open")
	add("ping between fragments", f(opText, "a")+f(opPing|fin, "p")+f(0, "b")+f(fin, "c"), "pong p", "text abc", "open")
	add("continuation after the end", f(opText, "a")+f(fin, "b")+f(fin, "c"), "text ab", "close 1002")
	add("text inside a text", f(opText, "a")+f(opText|fin, "b"), "close 1002")
	add("close between fragments", f(opText, "a")+closing(1000, "")+f(fin, "b"), "close 1000")
	const good = "é€\U0001F600\x00\ufffe\U0010FFFF\ufeff\ud7ff"
	add("UTF-8", f(opText|fin, good), "text "+good, "open")
	add("UTF-8, a byte in a fragment", fragments(good, 1), "text "+good, "open")
	for name, s := range map[string]string{"cut at the end": "\xf0\x9f\x98", "overlong": "\xc0\xaf", "a surrogate": "κ\xed\xa0\x80x"} {
		add("not UTF-8: "+name, f(opText|fin, s), "close 1007")
		add("not UTF-8: "+name+", a byte in a fragment", fragments(s, 1), "close 1007")
	}
	add("close twice", closing(1000, "")+closing(1001, ""), "close 1000")
	add("garbage after close", closing(1000, "")+x(100), "close 1000")
	add("large message, then close", f(opText|fin, x(256<<10))+closing(1000, ""), "text "+x(256<<10), "close 1000")
	add("close with half a code, after a ping", f(opPing|fin, "p")+f(opClose|fin, "\x03"), "pong p", "close 0")
	add("close with a longer reason", closing(1000, x(124)), "close 1002")
	add("close with a reason that is not UTF-8", closing(1000, "\xed\xa0\x80"), "close 1002")
	add("close with a code of one's own", closing(4999, ""), "close 4999")
	for _, code := range []int{999, 1005, 1006, 1015, 2999, 5000} {
		add(fmt.Sprintf("close with %d, which nobody may send", code), closing(code, ""), "close 1002")
	}
	add("unmasked", f(opText|fin, "a")+"\x81\x05hello", "text a", "close 1002")
	add("a byte too long", f(opText|fin, x(limit+1)), "close 1009")
	add("a byte too long, in fragments", fragments(x(limit+1), 65536), "close 1009")
	add("promises 2^63 bytes", promised(1<<63), "end")
	add("fragments that promise 2^63 together", f(opText, "a")+"\x80"+promised(1<<63 - 1)[1:], "end")
	add("hundred fragments", fragments(x(limit), limit/100), "text "+x(limit), "open")
	add("a thousand messages", strings.Repeat(f(opText|fin, "m"), 1000), append(slices.Repeat([]string{"text m"}, 1000), "open")...)
	add("an HTTP request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "close 1002")
	return cases
}

// The cases hold whether what a client sends comes at once or in pieces.
func TestProtocolTorture(t *testing.T) {
	s := newTCP(t, 1<<20)
	for _, p := range protocolCases() {
		for _, pieces := range []int{1, 100} {
			t.Run(fmt.Sprintf("%s in %d", p.name, pieces), func(t *testing.T) {
				c := s.join(0)
				c.t = t
				var wrote sync.WaitGroup
				wrote.Go(func() { c.writePieces(p.send, pieces) })
				for _, want := range p.want {
					if want == "open" {
						wrote.Wait()
						c.send(opPing|fin, "open?")
						want = "pong open?"
					}
					c.wantEvent(want)
				}
				c.conn.Close()
				wrote.Wait()
			})
		}
	}
	s.wantConns(0)
}

// writePieces writes at most so many pieces.
func (c *client) writePieces(b string, pieces int) {
	for piece := range slices.Chunk([]byte(b), 1+len(b)/pieces) {
		if c.write(string(piece)) != nil {
			return
		}
	}
}

// Frames with random changes make nothing panic or hang, and what comes back are whole frames.
func TestRandomTorture(t *testing.T) {
	s := newTCP(t, 1<<20)
	cases := protocolCases()
	for seed := range uint64(1000 * long) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var b []byte
		for len(b) < 200 {
			p := cases[rng.IntN(len(cases))].send
			b = append(b, p[:min(len(p), 300)]...)
		}
		for range []int{1, 3, 1000}[seed%3] {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		c := s.join(0)
		go func() {
			c.writePieces(string(b), 1+rng.IntN(100))
			c.conn.(*net.TCPConn).CloseWrite()
		}()
		last := c.skipAll()
		if strings.HasPrefix(last, "close ") {
			last = c.event()
		}
		if last != "end" {
			t.Fatalf("seed %d: %s", seed, last)
		}
		c.conn.Close()
	}
	s.wantConns(0)
}

// A message has a time from its first header to its last byte. A buffer that may not grow ends one.
func TestMessageTime(t *testing.T) {
	const allowed = time.Second // the pieces come so much faster that the pauses between them are no reason
	s := newTCP(t, 1<<20)
	s.opts.Grow = func(int) bool { return false }
	short := strings.Repeat("x", 500)
	c := s.join(0)
	c.say(short)
	c.want(short)
	c.say(short + short)
	if err := <-s.ended; err != context.Canceled {
		t.Error(err)
	}
	s.opts.MessageTime, s.opts.Grow = allowed, nil
	clients := []*client{s.join(0), s.join(0), s.join(0)}
	for _, c := range clients {
		c.say("read together with its header")
		c.want("read together with its header")
	}
	time.Sleep(allowed)
	begun := time.Now()
	for i, pieces := range [][2]string{{promised(limit), ""}, {promised(limit), "x"}, {f(opText, "a"), f(0, "a") + f(opPing|fin, "a")}} {
		go func() {
			for err := clients[i].write(pieces[0]); err == nil; err = clients[i].write(pieces[1]) {
				time.Sleep(allowed / 100)
			}
		}()
	}
	for i, c := range clients {
		c.wantClose(1013)
		if took := time.Since(begun); took < allowed {
			t.Errorf("%d: closed after %v", i, took)
		}
		if err := <-s.ended; !errors.Is(err, sockets.ErrUnfinished) {
			t.Error(err)
		}
	}
}
