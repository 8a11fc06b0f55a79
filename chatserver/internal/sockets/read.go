package sockets

import (
	"errors"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Read returns the text of the next message; it is valid until the next Read. A message that is
// not text in UTF-8 within the limits ends the connection with the close code for it, and the
// error is ErrBinary, ErrNotUTF8, ErrTooLong, ErrUnfinished or ErrNoRoom.
func (c *Conn) Read() ([]byte, error) {
	c.release()
	c.waiting.Store(false)
	defer c.waiting.Store(true)
	kind, r, err := c.ws.NextReader()
	if err == ErrTooLong {
		c.Close(CloseTooBig, "") // gorilla says so itself, but not of a length beyond 63 bits
	}
	if err != nil {
		return nil, err
	}
	text, err := c.readMessage(r)
	switch {
	case err != nil:
		return nil, err
	case kind != websocket.TextMessage:
		c.Close(CloseUnsupportedData, "only text messages are understood here")
		return nil, ErrBinary
	case !utf8.Valid(text):
		c.Close(CloseInvalidPayload, "the message is not UTF-8")
		return nil, ErrNotUTF8
	}
	return text, nil
}

// readMessage reads a message whose first header has come.
func (c *Conn) readMessage(r io.Reader) ([]byte, error) {
	c.buf = c.loop.buffers.Get().(*[]byte)
	c.sock.clock = started
	defer c.stopClock()
	b := (*c.buf)[:0]
	for {
		if len(b) == cap(b) {
			if c.opts.Grow != nil && !c.opts.Grow(cap(b)) {
				return nil, ErrNoRoom
			}
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*c.buf = b
		switch {
		case err == io.EOF:
			return b, nil
		case c.sock.clock == running && isTimeout(err) && c.ctx.Err() == nil:
			c.Close(CloseTryAgainLater, "a message did not come to its end in time")
			return nil, ErrUnfinished
		case err != nil:
			return nil, err
		}
	}
}

// isTimeout says whether a deadline has passed; gorilla hides what net says about it.
func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

// A clock is the time limit of a message. Most messages come whole, and need none.
type clock uint8

const (
	stopped clock = iota // no message is being read
	started              // one is, and the socket has not been read for more of it
	running              // its deadline is set
)

// runClock sets the deadline of a message that has not come whole.
func (c *Conn) runClock() {
	if c.sock.clock == started && c.opts.MessageTime > 0 {
		c.sock.clock = running
		c.setReadDeadline(time.Now().Add(c.opts.MessageTime))
	}
}

func (c *Conn) stopClock() {
	if c.sock.clock == running {
		c.setReadDeadline(time.Time{})
	}
	c.sock.clock = stopped
}

// setReadDeadline leaves the deadline of an end that has begun.
func (c *Conn) setReadDeadline(t time.Time) {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	if c.closing == nil {
		c.sock.SetReadDeadline(t)
	}
}

// smallBuffer is the capacity in bytes of a message's first buffer. Only those are used again: what
// has grown was counted by Options.Grow, and must be free when it is not counted any more.
const smallBuffer = 512

// release gives back the buffer of the last message.
func (c *Conn) release() {
	if c.buf != nil && cap(*c.buf) == smallBuffer {
		c.loop.buffers.Put(c.buf)
	}
	c.buf = nil
}
