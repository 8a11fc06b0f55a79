package sockets

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Conn is one websocket. Its reader, one goroutine, calls Read, Send and at last Finish; Close may
// be called by anybody.
type Conn struct {
	// Static after Upgrade.
	loop   *Loop
	ws     *websocket.Conn
	sock   sock
	opts   Options
	ctx    context.Context // ends when the connection does, or is about to
	cancel context.CancelFunc

	slot    chan []byte // capacity 1: a frame of the reader's, to be written next
	closing atomic.Pointer[farewell]
	heard   atomic.Bool // the peer has sent a byte since the last tick
	waiting atomic.Bool // the reader is not reading

	// Owned by the loop.
	phase      phase
	farewell   *farewell // closing, as far as the loop has been told; nil once it is over
	index      int       // in loop.conns
	next       int64     // offset of the next entry to send
	mark       int64
	markFrames []byte        // nil: none, or sent
	last       bool          // nothing follows markFrames
	noticed    uint64        // the notices up to this version have been sent
	rest       []byte        // what a full socket did not take
	took       int           // bytes that the socket took since it was asked last
	askAt      time.Duration // when a full socket is asked again, since loop.begun
	pause      time.Duration // before that; 0: the socket is not full
	stuck      uint8         // ticks since a full socket took something
	silent     uint8         // ticks since the peer sent a byte
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

// closeWait is how long a peer may take to answer a close frame, or to take it.
const closeWait = time.Second

// Upgrade makes a websocket of a request; on an error the request has been answered. The caller
// starts the reader's goroutine, which must end with Finish.
func (l *Loop) Upgrade(w http.ResponseWriter, r *http.Request, upgrader *websocket.Upgrader, opts func(protocol string) Options) (*Conn, error) {
	c := &Conn{loop: l, slot: make(chan []byte, 1)}
	c.sock.conn = c
	ws, err := upgrader.Upgrade(hijacker{w, &c.sock}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws, c.opts = ws, opts(ws.Subprotocol())
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.silent = uint8(rand.N(pingAfter)) // connections that come together shall not be pinged together
	if !c.opts.Notices {
		c.noticed = math.MaxUint64
	}
	ws.SetReadLimit(c.opts.Limit)
	ws.SetPingHandler(func(data string) error { return c.send(appendFrame(nil, finPong, []byte(data))) })
	if !l.post(func() { l.add(c) }) {
		c.hangUp() // nobody will serve it
	}
	return c, nil
}

// Subprotocol returns the negotiated subprotocol, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Context ends when the connection is about to.
func (c *Conn) Context() context.Context { return c.ctx }

// Send sends one text message of the reader's own, after its earlier ones. It returns when the
// message has taken the connection's only slot, so a peer that does not read is not read from. The
// error is the context's, which has ended: after Close nothing is sent.
func (c *Conn) Send(payload []byte) error { return c.send(AppendText(nil, payload)) }

func (c *Conn) send(frame []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	select {
	case c.slot <- frame:
		c.loop.post(func() { c.loop.serve(c) })
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// Close ends the connection: what is in the slot is still sent, then a close frame, and the socket
// is closed once the peer has answered, or after a second. Close does not wait.
func (c *Conn) Close(code int, reason string) { c.end(appendClose(nil, code, reason)) }

// end has frames written last, unless the end has begun before.
func (c *Conn) end(frames []byte) {
	f := &farewell{frames, time.Now().Add(closeWait), make(chan struct{})}
	if !c.closing.CompareAndSwap(nil, f) {
		return
	}
	// A reader that waits, for Kafka or for the peer, goes on to Finish.
	c.cancel()
	c.setReadDeadline(time.Now())
	c.loop.post(func() {
		c.farewell = f
		c.loop.serve(c)
	})
}

// Finish is the reader's last call: it closes the socket, after the closing handshake if one has
// begun.
func (c *Conn) Finish() {
	if f := c.closing.Load(); f != nil {
		select {
		case <-f.written:
		case <-time.After(time.Until(f.deadline)):
		}
		// Closing a socket with unread bytes resets it, and the peer would not see the close frame.
		c.sock.CloseWrite()
		c.sock.SetReadDeadline(f.deadline)
		io.Copy(io.Discard, c.sock.TCPConn)
	}
	c.hangUp()
	c.loop.post(func() { c.loop.remove(c) })
}

// hangUp closes the socket at once.
func (c *Conn) hangUp() {
	c.cancel()
	c.sock.TCPConn.Close()
}

// add begins to serve a connection.
func (l *Loop) add(c *Conn) {
	c.phase, c.next = placing, nothing
	if c.opts.Notices {
		c.phase = greeting
	}
	c.index = len(l.conns)
	l.conns = append(l.conns, c)
	l.unplaced = append(l.unplaced, c)
	if l.leave != nil {
		l.leave(c)
	}
	l.serve(c)
}

// remove forgets a connection whose reader has finished.
func (l *Loop) remove(c *Conn) {
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.cut(c)
}

// takePosted returns the reader's frame and the last frames, if they have been posted. After the
// last frames the connection is closing.
func (c *Conn) takePosted() (frames []byte) {
	if c.phase == greeting && c.farewell == nil {
		return nil
	}
	select {
	case frames = <-c.slot:
	default:
	}
	if c.farewell != nil {
		c.phase, c.next = closing, nothing
		frames = append(frames, c.farewell.frames...)
	}
	return frames
}

// endWriting says that nothing more will be written.
func (c *Conn) endWriting() {
	c.phase, c.next, c.noticed, c.opts.Place = ended, nothing, math.MaxUint64, nil
	if c.farewell != nil {
		close(c.farewell.written)
		c.farewell = nil
	}
}

// cut ends a connection without a close frame: a frame may have been cut.
func (l *Loop) cut(c *Conn) {
	c.rest = nil
	c.endWriting()
	c.hangUp()
}
