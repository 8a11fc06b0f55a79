package kafkatest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is a client's connection and the one to the broker that belongs to it.
// Three goroutines serve it; whichever fails first ends all.
type conn struct {
	proxy          *Proxy
	number         int
	client, broker net.Conn
	ctx            context.Context // ends with the connection
	cancel         context.CancelFunc

	expected chan expected // answers that the client waits for, in their order
	answers  chan []byte   // frames of the broker
}

// expected is an answer that the client waits for.
type expected struct {
	request kmsg.Request // nil if its key is unknown
	action  Action
	frame   []byte // the answer; nil if it comes from the broker
}

// cut ends the connection, in both directions and whatever it waits for.
func (c *conn) cut() { c.cancel() }

// run serves the connection to its end.
func (c *conn) run() {
	stop := context.AfterFunc(c.ctx, func() {
		c.client.Close()
		c.broker.Close()
	})
	var wg sync.WaitGroup
	for _, serve := range []func() error{c.passRequests, c.readAnswers, c.passAnswers} {
		wg.Go(func() {
			defer c.cancel()
			serve() // its error is the connection's end, which is nothing to report
		})
	}
	wg.Wait()
	stop()
	c.client.Close()
	c.broker.Close()
}

// passRequests passes requests on to the broker.
func (c *conn) passRequests() error {
	for n := 0; ; n++ {
		frame, err := readFrame(c.client)
		if err != nil {
			return err
		}
		key, client, body := parseRequest(frame)
		action := c.proxy.decide(Request{Key: key, Client: client, Conn: c.number, N: n, Body: body})
		if err := c.wait(action.Delay, nil); err != nil {
			return err
		}
		if action.CutBefore {
			return nil
		}
		want := expected{request: body, action: action}
		if action.NotLeader {
			if want.frame, err = notLeader(frame, body); err != nil {
				c.proxy.t.Error(err)
				return err
			}
		}
		produce, ok := body.(*kmsg.ProduceRequest)
		answered := !ok || produce.Acks != 0
		if answered {
			select {
			case c.expected <- want:
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
		if action.NotLeader {
			continue
		}
		if err := c.proxy.pass(c.ctx, Requests); err != nil {
			return err
		}
		if _, err := c.broker.Write(frame); err != nil {
			return err
		}
		if action.CutAfter && !answered {
			return nil
		}
	}
}

// readAnswers reads from the broker even while nothing is expected of it, so
// that its end is noticed.
func (c *conn) readAnswers() error {
	for {
		frame, err := readFrame(c.broker)
		if err != nil {
			return err
		}
		select {
		case c.answers <- frame:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// passAnswers passes answers back to the client, in the order of the requests.
func (c *conn) passAnswers() error {
	for {
		var want expected
		select {
		case want = <-c.expected:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
		frame := want.frame
		if frame == nil {
			select {
			case frame = <-c.answers:
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
		}
		if err := c.wait(want.action.DelayAnswer, want.action.HoldAnswer); err != nil {
			return err
		}
		if want.action.CutAfter {
			return nil
		}
		frame, err := c.proxy.rewrite(want.request, frame)
		if err != nil {
			return err
		}
		if err := c.proxy.pass(c.ctx, Answers); err != nil {
			return err
		}
		if _, err := c.client.Write(frame); err != nil {
			return err
		}
	}
}

// wait waits for d, and for hold if there is one.
func (c *conn) wait(d time.Duration, hold <-chan struct{}) error {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	return nil
}

// readFrame reads one request or answer, and returns it with its length prefix.
func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(frame)
	if size > 100<<20 {
		return nil, fmt.Errorf("a frame of %d bytes is none of Kafka's", size)
	}
	frame = append(frame, make([]byte, size)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}
