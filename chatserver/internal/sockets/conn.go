package sockets

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Conn is one websocket. Its reader, one goroutine, calls Read, Send and at last Finish; Close
// may be called by anybody.
type Conn struct {
	// Static after Upgrade.
	loop   *Loop
	ws     *websocket.Conn
	opts   Options
	ctx    context.Context // ends when the connection does, or is about to
	cancel context.CancelFunc

	// The reader fills it before it posts a frame, and the loop empties it.
	room chan struct{} // capacity 1

	// Owned by the reader.
	sock sock
	buf  *[]byte // of the message that Read returned last

	// Owned by the loop.
	phase      phase
	slot       []byte    // a frame of the reader's, to be written next
	farewell   *farewell // nil: the end has not begun, or is over
	index      int       // in loop.conns
	place      Place     // nil before Start, and once the connection is placed
	next       int64     // offset of the next entry to send
	mark       int64
	markFrames []byte // nil: none, or sent
	last       bool   // nothing follows markFrames
	noticed    uint64 // the notices up to this version have been sent
	rest       []byte // what a full socket did not take
	took       int    // bytes that the socket took since it was asked last
	askAt      int64  // when a full socket is asked again, in steps
	pause      uint8  // before that, in steps; 0: the socket is not full
	stuck      uint8  // ticks since a full socket took something
	silent     uint8  // ticks since the peer sent a byte
	unasked    uint8  // ticks since the peer sent a byte or was pinged

	heard   atomic.Bool // the peer has sent a byte since the last tick
	waiting atomic.Bool // the reader is not reading

	closing *farewell // guarded by loop.mu; nil: the end has not begun
}

// A phase is what the loop does with a connection.
type phase uint8

const (
	greeting  phase = iota // has no place, and nothing may go before the Hello
	placing                // has no place
	replaying              // has not had all of the log yet
	live                   // has had all of the log, at one time or another
	closing                // gets its last frames
	ended                  // nothing more is written
)

// A farewell is how a connection ends.
type farewell struct {
	frames   []byte        // the last
	deadline time.Time     // for the peer to take frames and to answer
	written  chan struct{} // closed when they have been written, or cannot be
}

// What Read returns for a message that ends its connection.
var (
	ErrBinary     = errors.New("a binary message")
	ErrNotUTF8    = errors.New("a text message that is not UTF-8")
	ErrTooLong    = websocket.ErrReadLimit // the message is longer than Options.Limit
	ErrUnfinished = errors.New("a message that did not come to its end in time")
	ErrNoRoom     = errors.New("a message for which there was no room")
)

// closeWait is how long a peer may take to answer a close frame, or to take it.
const closeWait = time.Second

// Upgrade makes a websocket of a request; on an error it has answered the request. The caller
// starts the reader's goroutine, which must end with Finish. The request has to come over TCP, and
// not through TLS: the loop writes to the socket itself.
func (l *Loop) Upgrade(w http.ResponseWriter, r *http.Request, upgrader *websocket.Upgrader, opts func(protocol string) Options) (*Conn, error) {
	if !overTCP(r) {
		http.Error(w, errNotTCP.Error(), http.StatusNotImplemented)
		return nil, errNotTCP
	}
	c := &Conn{loop: l, room: make(chan struct{}, 1)}
	c.sock.conn = c
	ws, err := upgrader.Upgrade(&hijacker{ResponseWriter: w, sock: &c.sock}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws, c.opts = ws, opts(ws.Subprotocol())
	c.sock.SetWriteBuffer(sendBuffer) // an error is of a socket that is gone, which its reader will see
	resendSoon(c.sock.raw)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.silent = uint8(rand.N(pingAfter)) // connections that come together shall not be pinged together
	c.unasked = c.silent
	if !c.opts.Notices {
		c.noticed = math.MaxUint64
	}
	ws.SetReadLimit(c.opts.Limit)
	ws.SetPingHandler(func(data string) error { return c.send(appendControl(nil, finPong, []byte(data))) })
	ws.SetPongHandler(func(string) error { return nil }) // sock.Read has noted that the peer lives
	ws.SetCloseHandler(func(code int, _ string) error {
		if c.sock.scanner.halfCode {
			code = CloseProtocolError
		}
		c.end(appendClose(nil, code, ""))
		return nil
	})
	c.sock.upgraded = true
	return c, nil
}

// Subprotocol returns the negotiated subprotocol, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Context ends when the connection is about to.
func (c *Conn) Context() context.Context { return c.ctx }

// Start gives the connection to the loop; Read, Send and Close come after it.
func (c *Conn) Start(place Place) {
	c.place = place
	c.loop.mu.Lock()
	c.loop.post(c, join, nil)
	c.loop.mu.Unlock()
	select {
	case <-c.loop.done:
		c.hangUp() // nobody will serve it
	default:
	}
}

// Send sends one text message of the reader's own, after its earlier ones. It returns when the
// message has taken the connection's only slot, so a peer that does not read is not read from. The
// error is the context's, which has ended: after Close nothing is sent.
func (c *Conn) Send(payload []byte) error { return c.send(AppendText(nil, payload)) }

func (c *Conn) send(frame []byte) error {
	select {
	case c.room <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	if c.closing != nil {
		return context.Canceled // what is told to have ended gets nothing more
	}
	c.loop.post(c, send, frame)
	return nil
}

// Close ends the connection: what is in the slot is still sent, then a close frame, and the
// socket is closed once the peer has answered, or after a second. Close does not wait.
func (c *Conn) Close(code int, reason string) { c.end(appendClose(nil, code, reason)) }

// end has frames written last, unless the end has begun before.
func (c *Conn) end(frames []byte) {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	if c.closing != nil {
		return
	}
	c.closing = &farewell{frames, time.Now().Add(closeWait), make(chan struct{})}
	// A reader that waits, for Kafka or for the peer, goes on to Finish.
	c.cancel()
	c.sock.SetReadDeadline(time.Unix(1, 0))
	c.loop.post(c, end, nil)
}

// Finish is the reader's last call: it closes the socket, after the closing handshake if one
// has begun.
func (c *Conn) Finish() {
	c.release()
	c.loop.mu.Lock()
	closing := c.closing
	c.loop.mu.Unlock()
	if closing != nil {
		timeout := time.NewTimer(time.Until(closing.deadline))
		select {
		case <-closing.written:
		case <-timeout.C:
		}
		timeout.Stop()
		// Closing a socket with unread bytes resets it, and the peer would not see the close frame.
		c.sock.CloseWrite()
		c.sock.SetReadDeadline(closing.deadline)
		io.Copy(io.Discard, c.sock.TCPConn)
	}
	c.hangUp()
	c.loop.mu.Lock()
	c.loop.post(c, leave, nil)
	c.loop.mu.Unlock()
}

// hangUp closes the socket at once.
func (c *Conn) hangUp() {
	c.cancel()
	c.sock.TCPConn.Close()
}
