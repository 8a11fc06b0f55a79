package sockets

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Conn is one websocket. Its reader, one goroutine, calls Read, Send and at last Finish. Any
// goroutine may call Close.
type Conn struct {
	// Static after Upgrade.
	loop   *Loop
	ws     *websocket.Conn
	sock   sock
	opts   Options
	ctx    context.Context // ends when the connection does, or is about to
	cancel context.CancelFunc

	slot    atomic.Pointer[outgoing] // a frame from the reader, to be written next
	closing atomic.Pointer[farewell]
	heard   atomic.Bool // the peer has sent a byte since the last tick
	waiting atomic.Bool // the reader is not reading

	taken chan struct{} // of the reader's last frame; nil: there was none; owned by the reader

	// Owned by the loop.
	phase      phase
	last       bool  // nothing follows markFrames
	stuck      uint8 // ticks since a full socket took something
	silent     uint8 // ticks since the peer sent a byte
	index      int   // in loop.conns
	next       int64 // offset of the next entry to send
	mark       int64
	markFrames []byte        // nil: none, or sent
	noticed    uint64        // the notices up to this version have been sent
	rest       []byte        // what a full socket did not take
	took       int           // bytes that the socket took since it was tried last
	pause      time.Duration // before a full socket is tried again; 0: the socket is not full
}

// A phase is what the loop does with a connection.
type phase uint8

const (
	greeting  phase = iota // has no place, and nothing may go before the Hello
	placing                // has no place
	replaying              // has not had all of the log yet
	live                   // has had all of the log at least once
	closing                // gets its last frames
	ended                  // nothing more is written
)

// An outgoing is a frame from the reader.
type outgoing struct {
	frame []byte
	taken chan struct{} // closed when the loop writes the frame
}

// A farewell is how a connection ends.
type farewell struct {
	frames []byte          // the last frames
	unsent context.Context // ends when frames are written, or cannot be; its deadline is also that of the peer's answer
	sent   context.CancelFunc
}

// closeWait is the value of Loop.closeWait, except in tests.
const closeWait = time.Second

// Upgrade upgrades a request to a websocket. On an error the request has been answered. The caller
// starts the reader's goroutine, which must end with Finish.
func (l *Loop) Upgrade(w http.ResponseWriter, r *http.Request, upgrader *websocket.Upgrader, opts func(protocol string) Options) (*Conn, error) {
	c := &Conn{loop: l, phase: placing, next: nothing}
	c.sock.conn = c
	ws, err := upgrader.Upgrade(hijacker{w, &c.sock}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws, c.opts = ws, opts(ws.Subprotocol())
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.silent = uint8(rand.N(pingAfter)) // connections that are opened together shall not get pings together
	if c.opts.Notices {
		c.phase = greeting
	} else {
		c.noticed = math.MaxUint64
	}
	ws.SetReadLimit(c.opts.Limit)
	ws.SetPingHandler(func(data string) error { return c.send(appendFrame(nil, finPong, []byte(data))) })
	if !l.post(func() { l.add(c) }) {
		c.hangUp() // the loop has ended
	}
	return c, nil
}

// Context ends when the connection is about to.
func (c *Conn) Context() context.Context { return c.ctx }

// Send sends one text message from the reader, after its earlier ones. Send returns when the
// message is in the connection's only slot, so a peer that does not read is not read from. The
// error is the error of the context, which has ended.
func (c *Conn) Send(payload []byte) error { return c.send(AppendText(nil, payload)) }

func (c *Conn) send(frame []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.taken != nil {
		select {
		case <-c.taken:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	p := &outgoing{frame, make(chan struct{})}
	c.taken = p.taken
	c.slot.Store(p)
	c.loop.post(func() { c.loop.serve(c) })
	return nil
}

// RemoteAddr returns the address of the peer, also after the end of the connection.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// Close ends the connection. The frame in the slot is still sent, then a close frame. The socket is
// closed when the peer has answered, or after closeWait. Close does not wait.
func (c *Conn) Close(code int, reason string) { c.end(appendClose(nil, code, reason)) }

// end makes frames the last of the connection. Only the first call has an effect.
func (c *Conn) end(frames []byte) {
	unsent, sent := context.WithTimeout(context.Background(), c.loop.closeWait)
	if !c.closing.CompareAndSwap(nil, &farewell{frames, unsent, sent}) {
		sent()
		return
	}
	// A reader that waits, for Kafka or for the peer, goes on to Finish.
	c.cancel()
	c.setReadDeadline(time.Now())
	c.loop.post(func() { c.loop.serve(c) })
}

// Finish is the reader's last call: it closes the socket, after the closing handshake if one has
// begun.
func (c *Conn) Finish() {
	if f := c.closing.Load(); f != nil {
		<-f.unsent.Done()
		// If the loop has stood still for closeWait, the last frames are not written yet. Here the
		// loop gets the turn that writes them.
		served := make(chan struct{})
		if c.loop.post(func() { c.loop.serve(c); close(served) }) {
			<-served
		}
		deadline, _ := f.unsent.Deadline()
		// The kernel resets a socket that is closed with unread bytes; the peer would not see the
		// close frame.
		c.sock.CloseWrite()
		c.sock.SetReadDeadline(deadline)
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

// takePosted returns the reader's frame and the last frames, if there are any. After the last
// frames the connection is closing.
func (c *Conn) takePosted() (frames []byte) {
	farewell := c.closing.Load()
	if c.phase == greeting && farewell == nil {
		return nil
	}
	if p := c.slot.Swap(nil); p != nil {
		frames = p.frame
		close(p.taken)
	}
	if farewell != nil {
		c.phase, c.next = closing, nothing
		frames = append(frames, farewell.frames...)
	}
	return frames
}

// endWriting is called when nothing more will be written.
func (c *Conn) endWriting() {
	c.phase, c.next = ended, nothing
	if f := c.closing.Load(); f != nil {
		f.sent()
	}
}

// cut ends a connection without a close frame: the last frame may be incomplete.
func (l *Loop) cut(c *Conn) {
	c.rest = nil
	c.endWriting()
	c.hangUp()
}
