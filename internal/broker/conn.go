package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	maxConns       = 100              // a pod has about six; an idle one costs some 10 KB
	requestTimeout = 10 * time.Second // from a request's first byte to its last, or for a first one
	answerTimeout  = 30 * time.Second // for reading an answer
	maxRequest     = 16 * maxBatch    // topics of many partitions send many batches at a time
	lightRequest   = 64 << 10         // beyond this, only maxTurns are in memory at a time
	maxTurns       = 2
)

// client is one connection.
type client struct {
	*Broker
	net.Conn
	turn bool // it has one of Broker.turns; for serve's goroutine

	// Guarded by Broker.mu.
	own   bool      // its client id begins with Config.Own
	spoke bool      // it has sent a whole request
	last  time.Time // when, or when it came
}

// accept serves every connection that comes, until Close.
func (b *Broker) accept() {
	for {
		conn, err := b.ln.Accept()
		switch {
		case err == nil:
			b.admit(&client{Broker: b, Conn: conn, last: time.Now()})
		case errors.Is(err, net.ErrClosed):
			return
		default: // no free file descriptor, for one
			b.cfg.Log.Warn("the embedded broker cannot accept a connection", "err", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// admit serves c. If there are too many connections, one goes: of those that never sent a request,
// or else of all, the one that was silent longest, and c if all the others are the server's own.
func (b *Broker) admit(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) >= maxConns {
		victim := c
		for o := range b.clients {
			if !o.own && (victim == c || victim.spoke && !o.spoke || victim.spoke == o.spoke && o.last.Before(victim.last)) {
				victim = o
			}
		}
		victim.Conn.Close() // its serve ends
		if delete(b.clients, victim); victim == c {
			return
		}
	}
	b.clients[c] = struct{}{}
	b.tasks.Go(c.serve)
}

// serve answers one request after another. After an error the connection ends: the client's fault.
func (c *client) serve() {
	defer context.AfterFunc(c.ctx, func() { c.Conn.Close() })()
	var err error
	for wait := requestTimeout; err == nil; wait = 0 {
		var answer []byte
		if answer, err = c.next(wait); err == nil {
			c.SetWriteDeadline(time.Now().Add(answerTimeout))
			_, err = c.Write(answer)
		}
	}
	c.cfg.Log.Debug("the embedded broker ends a connection", "remote", c.RemoteAddr().String(), "err", err)
	c.Conn.Close()
	c.mu.Lock()
	delete(c.clients, c)
	c.mu.Unlock()
}

// next waits for a request, for ever if wait is 0, and returns the answer to it, with its length.
func (c *client) next(wait time.Duration) ([]byte, error) {
	var prefix [4]byte
	c.SetReadDeadline(time.Time{})
	if wait > 0 {
		c.SetReadDeadline(time.Now().Add(wait))
	}
	n, err := io.ReadAtLeast(c, prefix[:], 1)
	if err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	if _, err := io.ReadFull(c, prefix[n:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(prefix[:])
	if length > maxRequest {
		return nil, fmt.Errorf("a request of %d bytes, the largest allowed has %d", length, maxRequest)
	}
	if length > lightRequest {
		c.takeTurn()
		c.SetReadDeadline(time.Now().Add(requestTimeout))
	}
	defer c.endTurn()
	request := make([]byte, length)
	if _, err := io.ReadFull(c, request); err != nil {
		return nil, err
	}
	return c.answer(request)
}

// takeTurn waits until this connection may use much memory; endTurn lets the next one. Who has a
// turn uses it within requestTimeout.
func (c *client) takeTurn() {
	if !c.turn {
		c.turns <- struct{}{}
		c.turn = true
	}
}

func (c *client) endTurn() {
	if c.turn {
		<-c.turns
		c.turn = false
	}
}

// ask sends a request to kfake and returns the answer, with its length. kfake keeps the buffers of
// a connection for as long as that lives: this one lives for one request.
func (b *Broker) ask(req kmsg.Request, number int32) ([]byte, error) {
	conn, err := b.inside.DialContext(b.ctx, "tcp", "localhost:0")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(b.ctx, func() { conn.Close() })()
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, number)); err != nil {
		return nil, err
	}
	var prefix [4]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, 4+binary.BigEndian.Uint32(prefix[:]))
	copy(answer, prefix[:])
	_, err = io.ReadFull(conn, answer[4:])
	return answer, err
}
