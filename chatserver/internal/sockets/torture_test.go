package sockets_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestProtocolTorture(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 1<<20)
	control := s.join(0)
	cases := protocolCases()
	if len(cases) < 60 {
		t.Errorf("only %d cases", len(cases))
	}
	for i, p := range cases {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			c := s.join(0)
			c.t = t
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

// wantOnly wants that all others than c have gone by themselves.
func (s *server) wantOnly(c *client) {
	s.t.Helper()
	until(s.t, "the others have gone", func() bool { return s.stats().Conns == 1 })
	s.append("still there")
	c.want("still there")
}

// writeChopped writes so many bytes at a time; 0: all at once.
func (c *client) writeChopped(b []byte, chop int) {
	if chop == 0 {
		chop = len(b)
	}
	for piece := range slices.Chunk(b, max(1, chop)) {
		if c.write(piece) != nil {
			return
		}
	}
}

// wantEvent wants one of the alternatives of a protocolCase.
func (c *client) wantEvent(want string) {
	c.t.Helper()
	if want == "open" {
		c.send(opPing|fin, []byte("open?"))
		want = "pong open?"
	}
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
		got = fmt.Sprint("close ", closeError(payload).code)
		c.wantEnd()
	}
	if !slices.Contains(strings.Split(want, "|"), got) {
		c.t.Fatalf("got %.80q, want %.80q", got, want)
	}
}

// Random bytes, and good frames with random changes, end each connection in an orderly way, or
// not at all: nothing panics or hangs, and what comes back are whole frames.
func TestRandomTorture(t *testing.T) {
	noLeaks(t)
	s := newTCP(t, 1<<20)
	control := s.join(0)
	cases := protocolCases()
	for seed := range uint64(1000 * long) {
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
		c := s.join(0)
		go func() {
			c.writeChopped(b, rng.IntN(100))
			c.conn.(*net.TCPConn).CloseWrite()
		}()
		opcode, err := 0, error(nil)
		for err == nil && opcode != opClose {
			opcode, _, err = c.frame()
		}
		switch {
		case err == nil:
			c.wantEnd()
		case err == io.ErrUnexpectedEOF, !isReset(err), strings.HasPrefix(err.Error(), "not a frame"):
			t.Fatalf("seed %d: %v", seed, err)
		}
		c.conn.Close()
	}
	s.wantOnly(control)
}
