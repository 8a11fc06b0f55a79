package sockets_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestProtocolTorture(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 1<<20)
	s.limit = limit
	control := s.dial("/", 0)
	control.want("hello", "live")
	cases := protocolCases()
	t.Logf("%d cases", len(cases))
	if len(cases) < 60 {
		t.Errorf("only %d cases", len(cases))
	}
	for i, p := range cases {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			c := s.dial("/", 0)
			c.t = t
			c.want("hello", "live")
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				c.writeChopped(p.send, p.chop)
			}()
			for _, want := range p.want {
				c.wantEvent(want)
			}
			c.conn.Close()
			<-wrote
		})
		m := fmt.Sprint("after case ", i)
		s.append(m)
		control.want(m)
	}
	s.wantOnly(control)
}

// wantOnly ends the server, after all others than c have gone by themselves.
func (s *server) wantOnly(c *client) {
	s.t.Helper()
	until(s.t, "the others have gone", func() bool { return s.stats().Conns == 1 })
	s.append("still there")
	c.want("still there")
	c.conn.Close()
	s.http.Close()
	s.stop()
}

func (c *client) writeChopped(b []byte, chop int) {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	for chop > 0 && len(b) > chop {
		if _, err := c.conn.Write(b[:chop]); err != nil {
			return
		}
		b = b[chop:]
	}
	c.conn.Write(b)
}

// wantEvent wants one of the alternatives of a protocolCase.
func (c *client) wantEvent(want string) {
	c.t.Helper()
	if want == "open" {
		c.send(opPing|fin, []byte("open?"))
		want = "pong open?"
	}
	c.conn.SetReadDeadline(time.Now().Add(patience))
	opcode, payload, err := c.frame()
	got := fmt.Sprint("opcode ", opcode)
	switch {
	case err != nil && isReset(err):
		got = "drop"
	case err != nil:
		c.t.Fatalf("%v, want %.80q", err, want)
	case opcode == opText:
		got = "text " + string(payload)
	case opcode == opPong:
		got = "pong " + string(payload)
	case opcode == opClose:
		var end closed
		errors.As(closeError(payload), &end)
		got = fmt.Sprint("close ", end.code)
		c.wantEnd()
	}
	if !slices.Contains(strings.Split(want, "|"), got) {
		c.t.Fatalf("got %.80q, want %.80q", got, want)
	}
}

// What is no handshake gets an HTTP error, or the connection is closed.
func TestHandshakeTorture(t *testing.T) {
	noLeaks(t)
	s := newServer(t, 1<<20)
	s.http.Config.ReadHeaderTimeout = 300 * time.Millisecond
	s.http.Start()
	control := s.dial("/", 0)
	control.want("hello", "live")
	const key, good = keyHeader, headers
	for name, c := range map[string]struct {
		send string
		half bool // the client says no more, and waits
		want string
	}{
		"good":                    {"GET / HTTP/1.1\r\n" + good + "\r\n", false, "101"},
		"HTTP/1.0":                {"GET / HTTP/1.0\r\n" + good + "\r\n", false, "101 400"},
		"POST":                    {"POST / HTTP/1.1\r\n" + good + "\r\n", false, "405"},
		"HEAD":                    {"HEAD / HTTP/1.1\r\n" + good + "\r\n", false, "405"},
		"no upgrade":              {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", false, "400"},
		"another upgrade":         {"GET / HTTP/1.1\r\n" + strings.Replace(good, "websocket\r", "h2c\r", 1) + "\r\n", false, "400"},
		"connection keeps":        {"GET / HTTP/1.1\r\n" + strings.Replace(good, "Connection: Upgrade", "Connection: keep-alive", 1) + "\r\n", false, "400"},
		"version 8":               {"GET / HTTP/1.1\r\n" + strings.Replace(good, "13", "8", 1) + "\r\n", false, "400 426"},
		"no version":              {"GET / HTTP/1.1\r\n" + strings.Replace(good, "Sec-WebSocket-Version: 13\r\n", "", 1) + "\r\n", false, "400 426"},
		"no key":                  {"GET / HTTP/1.1\r\n" + strings.Replace(good, key, "", 1) + "\r\n", false, "400"},
		"short key":               {"GET / HTTP/1.1\r\n" + strings.Replace(good, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 1) + "\r\n", false, "400"},
		"key that is not base64":  {"GET / HTTP/1.1\r\n" + strings.Replace(good, "dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!!!", 1) + "\r\n", false, "400"},
		"foreign origin":          {"GET / HTTP/1.1\r\nOrigin: http://elsewhere\r\n" + good + "\r\n", false, "403"},
		"no host":                 {"GET / HTTP/1.1\r\n" + strings.Replace(good, "Host: test\r\n", "", 1) + "\r\n", false, "400"},
		"garbage":                 {"\xff\xfe\x00garbage\r\n\r\n", false, "400"},
		"a websocket frame":       {string(f(opText|fin, "hello")) + "\r\n\r\n", false, "400"},
		"a header of 2 MB":        {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n" + good + "\r\n", false, "431 drop"},
		"a message with it":       {"GET / HTTP/1.1\r\n" + good + "\r\n" + string(f(opText|fin, "too early")), false, "drop 101"},
		"garbage with it":         {"GET / HTTP/1.1\r\n" + good + "\r\n\xff\xff\xff\xff", false, "drop 101"},
		"nothing":                 {"", true, "drop 408"},
		"half a request line":     {"GET / HT", true, "drop 400 408"},
		"half a header":           {"GET / HTTP/1.1\r\nHost: te", true, "drop 400 408"},
		"all but the last line":   {"GET / HTTP/1.1\r\n" + good, true, "drop 400 408"},
		"a body that never comes": {"GET / HTTP/1.1\r\nContent-Length: 1000\r\n" + good + "\r\n", true, "drop 101 400"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			conn := s.connect(0)
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			go io.WriteString(conn, c.send)
			line := make([]byte, len("HTTP/1.1 101"))
			_, err := io.ReadFull(conn, line)
			got := "drop"
			switch {
			case err == nil:
				got = string(line[len("HTTP/1.1 "):])
			case !isReset(err):
				t.Fatal(err)
			}
			if !slices.Contains(strings.Fields(c.want), got) {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if c.half && got != "101" {
				if _, err := io.Copy(io.Discard, conn); err != nil && !isReset(err) {
					t.Error("the server waits for ever for the rest")
				}
			}
		})
	}
	s.append("after all")
	control.want("after all")
	s.wantOnly(control)
}

// Random bytes, and good frames with random changes, end each connection in an orderly way, or
// not at all: nothing panics or hangs, and what comes back are whole frames.
func TestRandomTorture(t *testing.T) {
	noLeaks(t)
	const runs = 1000 * long
	s := newTCP(t, 1<<20)
	s.limit = limit
	control := s.dial("/", 0)
	control.want("hello", "live")
	cases := protocolCases()
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var b []byte
		for len(b) < 200 {
			p := cases[rng.IntN(len(cases))].send
			b = append(b, p[:min(len(p), 300)]...)
		}
		for range rng.IntN(4) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		if seed%3 == 0 {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		}
		c := s.dial("/", 0)
		c.want("hello", "live")
		go func() {
			c.writeChopped(b, rng.IntN(100))
			c.conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		c.conn.SetReadDeadline(time.Now().Add(patience))
		for {
			opcode, _, err := c.frame()
			if err == nil && opcode != opClose {
				continue
			}
			if err == nil {
				c.wantEnd()
			} else if !errors.Is(err, io.EOF) && !isReset(err) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			break
		}
		c.conn.Close()
	}
	s.wantOnly(control)
}
