package sockets_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The cases hold whether what a client sends comes at once or in pieces.
func TestProtocolTorture(t *testing.T) {
	s := newTCP(t, 1<<20)
	control := s.join(0)
	for i, p := range protocolCases() {
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
		m := fmt.Sprint("after case ", i)
		s.append(m)
		control.want(m)
	}
	s.wantConns(1)
}

// writePieces writes at most so many pieces.
func (c *client) writePieces(b string, pieces int) {
	for piece := range slices.Chunk([]byte(b), 1+len(b)/pieces) {
		if c.write(string(piece)) != nil {
			return
		}
	}
}

// Random bytes, and good frames with random changes, end each connection in an orderly way, or
// not at all: nothing panics or hangs, and what comes back are whole frames.
func TestRandomTorture(t *testing.T) {
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
			c.writePieces(string(b), 1+rng.IntN(100))
			c.conn.(*net.TCPConn).CloseWrite()
		}()
		for last := ""; last != "end"; {
			switch last = c.event(); {
			case strings.HasPrefix(last, "close "):
				c.wantEnd()
				last = "end"
			case last != "end" && last != "ping" && !strings.HasPrefix(last, "text ") && !strings.HasPrefix(last, "pong "):
				t.Fatalf("seed %d: %s", seed, last)
			}
		}
		c.conn.Close()
	}
	s.wantConns(1)
	s.append("still there")
	control.want("still there")
}
