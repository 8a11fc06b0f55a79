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
	maxConns       = 100              // a pod has about six; an idle connection costs about 10 KB
	requestTimeout = 10 * time.Second // from a request's first byte to its last; on a new connection, for a first byte
	answerTimeout  = 30 * time.Second // for the client to read an answer
	maxRequest     = 16 * maxBatch    // one request may have the batches of many partitions
	lightRequest   = 64 << 10         // of larger requests, one is in memory at a time
)

type client struct {
	net.Conn
	own  bool      // its client id begins with Config.Own
	last time.Time // when it sent its newest request; zero before the first
}

// accept admits every new connection, until Close.
func (b *Broker) accept() {
	for {
		conn, err := b.ln.Accept()
		switch {
		case err == nil:
			b.admit(&client{Conn: conn})
		case errors.Is(err, net.ErrClosed):
			return
		default: // for example, no free file descriptor
			b.cfg.Log.Warn("the embedded broker cannot accept a connection", "err", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// admit serves c. If there are too many connections, admit closes the one that was silent longest,
// first those that never sent a request. If all the others are the server's own, c is closed.
func (b *Broker) admit(c *client) {
	b.clientsMu.Lock()
	defer b.clientsMu.Unlock()
	if len(b.clients) >= maxConns {
		victim := c
		for o := range b.clients {
			if !o.own && (victim == c || o.last.Before(victim.last)) {
				victim = o
			}
		}
		victim.Close() // its serve then returns
		if delete(b.clients, victim); victim == c {
			return
		}
	}
	b.clients[c] = struct{}{}
	b.tasks.Go(func() { b.serve(c) })
}

// serve answers one request after another. An error is the client's fault, and ends the connection.
func (b *Broker) serve(c *client) {
	defer context.AfterFunc(b.ctx, func() { c.Close() })()
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	var err error
	for err == nil {
		var answer []byte
		if answer, err = b.next(c); err == nil {
			c.SetWriteDeadline(time.Now().Add(answerTimeout))
			_, err = c.Write(answer)
		}
		c.SetReadDeadline(time.Time{}) // between requests the client may be silent
	}
	b.cfg.Log.Debug("the embedded broker ends a connection", "remote", c.RemoteAddr().String(), "err", err)
	c.Close()
	b.clientsMu.Lock()
	delete(b.clients, c)
	b.clientsMu.Unlock()
}

// next waits for a request and returns the answer, with its length prefix.
func (b *Broker) next(c *client) ([]byte, error) {
	prefix := make([]byte, 4)
	if _, err := io.ReadFull(c, prefix[:1]); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	if _, err := io.ReadFull(c, prefix[1:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(prefix)
	switch {
	case length > maxRequest:
		return nil, fmt.Errorf("a request of %d bytes, the largest allowed has %d", length, maxRequest)
	case length > lightRequest:
		b.large.Lock()
		defer b.large.Unlock()
		c.SetReadDeadline(time.Now().Add(requestTimeout))
	}
	request := make([]byte, length)
	if _, err := io.ReadFull(c, request); err != nil {
		return nil, err
	}
	return b.answer(c, request)
}

// ask sends a request to kfake and returns the answer, with its length prefix. The connection to
// kfake lives for one request, because kfake keeps a connection's buffers until the connection
// ends.
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
	prefix := make([]byte, 4)
	if _, err := io.ReadFull(conn, prefix); err != nil {
		return nil, err
	}
	answer := append(prefix, make([]byte, binary.BigEndian.Uint32(prefix))...)
	_, err = io.ReadFull(conn, answer[4:])
	return answer, err
}
