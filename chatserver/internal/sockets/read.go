package sockets

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// The errors of Read for a message that ends its connection.
var (
	ErrBinary     = errors.New("a binary message")
	ErrNotUTF8    = errors.New("a text message that is not UTF-8")
	ErrTooLong    = websocket.ErrReadLimit // the message is longer than Options.Limit
	ErrUnfinished = errors.New("a message that did not end in time")
)

// Read returns the text of the next message. A message that is not text in UTF-8 within the limits
// ends the connection with the close code for it, and the error is ErrBinary, ErrNotUTF8,
// ErrTooLong or ErrUnfinished.
//
// The reader of an idle client waits in NextReader. The frames of the functions up to there are
// small, so that its stack keeps the 2 KiB with which a goroutine begins.
func (c *Conn) Read() ([]byte, error) {
	c.waiting.Store(false)
	kind, r, err := c.ws.NextReader()
	text, err := c.text(kind, r, err)
	c.waiting.Store(true)
	return text, err
}

// text reads the message that NextReader has found.
func (c *Conn) text(kind int, r io.Reader, err error) (text []byte, _ error) {
	if err == nil {
		text, err = c.readMessage(r)
	}
	switch {
	case err == ErrUnfinished:
		c.Close(websocket.CloseTryAgainLater, err.Error())
	case err != nil:
	case kind != websocket.TextMessage:
		err = ErrBinary
		c.Close(websocket.CloseUnsupportedData, "this server takes only text messages")
	case !utf8.Valid(text):
		err = ErrNotUTF8
		c.Close(websocket.CloseInvalidFramePayloadData, "the message is not UTF-8")
	}
	return text, err
}

// readMessage reads a message whose first header has come.
func (c *Conn) readMessage(r io.Reader) ([]byte, error) {
	if c.opts.MessageTime > 0 {
		c.setReadDeadline(time.Now().Add(c.opts.MessageTime))
		defer c.setReadDeadline(time.Time{})
	}
	b := make([]byte, 0, 512) // every message may use so much without a call of Grow
	for {
		if len(b) == cap(b) {
			if c.opts.Grow != nil && !c.opts.Grow(cap(b)) {
				return nil, context.Canceled
			}
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		var netErr net.Error // gorilla hides os.ErrDeadlineExceeded
		switch {
		case err == io.EOF:
			return b, nil
		case errors.As(err, &netErr) && netErr.Timeout() && c.ctx.Err() == nil:
			return nil, ErrUnfinished
		case err != nil:
			return nil, err
		}
	}
}

// setReadDeadline sets the deadline of reads. When the connection is about to end, reads end at
// once.
func (c *Conn) setReadDeadline(t time.Time) {
	c.sock.SetReadDeadline(t)
	if c.ctx.Err() != nil {
		c.sock.SetReadDeadline(time.Now())
	}
}
