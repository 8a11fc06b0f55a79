package sockets

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/framelog"
)

// Conn is one websocket. Its reader, one goroutine, calls Read, Send and at last Finish; Close
// may be called by anybody. The writing side has exactly one owner at a time: the loop, or,
// while the socket is full, the connection's solo goroutine.
type Conn struct {
	// Static after Upgrade.
	loop   *Loop
	ws     *websocket.Conn
	sock   *sock
	raw    syscall.RawConn // nil: it cannot be written to without waiting, and never enters the loop
	opts   Options
	ctx    context.Context // ends when the connection does, or is about to
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1, never closed: something for the solo goroutine to look at

	// Owned by the reader.
	buf *[]byte // of the message that Read returned last

	// Owned by the loop.
	index int  // in loop.conns; -1 when it is not there
	solo  bool // the solo goroutine owns the writing side

	// Owned by the owner of the writing side.
	log        *framelog.Log
	place      Place // nil before Start, and once the connection is placed
	next       int64 // offset of the next entry to send
	mark       int64
	markFrames []byte // nil: none, or sent
	noticed    uint64 // the notices up to this version have been sent
	ended      bool   // the close frame was written, or the socket broke: write nothing more

	reached atomic.Int64 // next, for the loop to see while the solo goroutine owns it
	heard   atomic.Int64 // when the peer last sent a byte, in the loop's seconds
	pinged  atomic.Int64 // when it was last asked to, likewise
	waiting atomic.Bool  // the reader is not reading, so silence is not the peer's

	mu      sync.Mutex // guards the following
	pending pending
	queued  bool // in loop.attention
}

// pending is what others want of the owner of the writing side.
type pending struct {
	slot    []byte        // one frame of the reader's: ack, reject, pong
	room    chan struct{} // not nil: closed when the slot is free again
	reset   *reset        // go on in another log
	close   []byte        // the last frames
	written chan struct{} // not nil: closed when they have been written, or cannot be
	ended   bool          // the owner writes nothing more
	ping    bool          // the peer has been silent
	back    bool          // the solo goroutine has given the connection back
	left    bool          // the reader has finished
}

type reset struct {
	log   *framelog.Log
	frame []byte // for those that get notices
	close []byte // for the others
}

// What Read returns for a message that ends its connection.
var (
	ErrBinary  = errors.New("a binary message")
	ErrNotUTF8 = errors.New("a text message that is not UTF-8")
	ErrTooLong = websocket.ErrReadLimit // it is longer than Options.Limit
)

// sendBuffer is the size in bytes of a socket's send buffer; Linux doubles it for what it keeps
// beside the data. Left to itself the kernel gives 4 MB to a peer that does not read.
const sendBuffer = 128 << 10

// closeWait is how long a peer may take to answer a close frame, or to take it.
const closeWait = time.Second

// Upgrade makes a websocket of a request; on an error it has answered it. The caller starts
// the reader's goroutine, which must end with Finish.
func (l *Loop) Upgrade(w http.ResponseWriter, r *http.Request, upgrader *websocket.Upgrader, opts func(protocol string) Options) (*Conn, error) {
	c := &Conn{loop: l, index: -1, wake: make(chan struct{}, 1)}
	ws, err := upgrader.Upgrade(&hijacker{ResponseWriter: w, conn: c}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws, c.opts = ws, opts(ws.Subprotocol())
	c.raw = rawConn(c.sock.Conn)
	if tcp, ok := c.sock.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		tcp.SetWriteBuffer(sendBuffer) // an error is of a socket that is gone, which its reader will see
	}
	if c.raw != nil {
		resendSoon(c.raw)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	// Connections that come together shall not be pinged together.
	now := l.now.Load()
	heard := now - rand.Int64N(int64(pingAfter/time.Second))
	c.heard.Store(heard)
	c.pinged.Store(heard)
	ws.SetReadLimit(c.opts.Limit)
	ws.SetPingHandler(func(data string) error { return c.send(appendControl(nil, finPong, []byte(data))) })
	ws.SetPongHandler(func(string) error { return nil }) // sock.Read has noted that the peer lives
	ws.SetCloseHandler(func(code int, _ string) error {
		switch {
		case c.sock.scanner.halfCode:
			code = CloseProtocolError
		case code == websocket.CloseNoStatusReceived:
			code = 0
		}
		c.end(appendClose(nil, code, ""))
		return nil
	})
	c.sock.upgraded.Store(true)
	return c, nil
}

// Subprotocol returns the negotiated subprotocol, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Context ends when the connection is about to.
func (c *Conn) Context() context.Context { return c.ctx }

// Start gives the connection to the loop; Read, Send and Close come after it.
func (c *Conn) Start(place Place) {
	c.place = place
	c.loop.attend(c)
	select {
	case <-c.loop.done:
		c.sock.Conn.Close() // nobody will look at it
	default:
	}
}

// Read returns the text of the next message; it is valid until the next Read. A message that
// is not text in UTF-8 within the limit ends the connection with the close code for it, and
// the error is ErrBinary, ErrNotUTF8 or ErrTooLong.
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
	c.buf = c.loop.buffers.Get().(*[]byte)
	text, err := readAll(r, (*c.buf)[:0])
	*c.buf = text
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

// Send sends one text message of the reader's own, after its earlier ones. It returns when the
// message has taken the connection's only slot, so a peer that does not read is not read from. The
// error is the context's, which has ended: after Close nothing is sent.
func (c *Conn) Send(payload []byte) error { return c.send(AppendText(nil, payload)) }

func (c *Conn) send(frame []byte) error {
	for {
		c.mu.Lock()
		if c.pending.close != nil {
			c.mu.Unlock()
			return context.Canceled // what is told to have ended gets nothing more
		}
		if c.pending.slot == nil {
			c.pending.slot = frame
			c.mu.Unlock()
			c.loop.attend(c)
			return nil
		}
		if c.pending.room == nil {
			c.pending.room = make(chan struct{})
		}
		room := c.pending.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// Close ends the connection: what is in the slot is still sent, then a close frame, and the
// socket is closed once the peer has answered it, or after a second. It does not wait.
func (c *Conn) Close(code int, reason string) { c.end(appendClose(nil, code, reason)) }

// closeAfter is Close with a text message before the close frame.
func (c *Conn) closeAfter(payload []byte, code int, reason string) {
	c.end(appendClose(AppendText(nil, payload), code, reason))
}

func (c *Conn) end(frames []byte) {
	c.mu.Lock()
	c.endLocked(frames)
	c.mu.Unlock()
	c.loop.attend(c)
}

// endLocked has frames written last, unless the end has begun before.
func (c *Conn) endLocked(frames []byte) {
	if c.pending.close != nil {
		return
	}
	c.pending.close = frames
	c.pending.written = make(chan struct{})
	if c.pending.ended {
		close(c.pending.written)
	}
	// A reader that waits for Kafka stops waiting, and a peer that does not read or does not
	// answer is not waited for.
	c.cancel()
	deadline := time.Now().Add(closeWait)
	c.sock.Conn.SetReadDeadline(deadline)
	c.sock.Conn.SetWriteDeadline(deadline)
}

// Finish is the reader's last call: it closes the socket, after the closing handshake if one
// has begun.
func (c *Conn) Finish() {
	c.release()
	c.waiting.Store(true)
	c.mu.Lock()
	written := c.pending.written
	c.mu.Unlock()
	if written != nil {
		timeout := time.NewTimer(closeWait)
		select {
		case <-written:
		case <-timeout.C:
		}
		timeout.Stop()
		// Closing a socket with unread bytes resets it, and the peer would not see the close
		// frame. The read deadline was set when the close began.
		if half, ok := c.sock.Conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		io.Copy(io.Discard, c.sock.Conn)
	}
	c.cancel()
	c.sock.Conn.Close()
	c.mu.Lock()
	c.pending.left = true
	c.mu.Unlock()
	c.loop.attend(c)
}

func (c *Conn) release() {
	if c.buf != nil {
		if cap(*c.buf) <= keepBuffer {
			c.loop.buffers.Put(c.buf)
		}
		c.buf = nil
	}
}

// keepBuffer is the capacity in bytes of the largest message buffer that is used again.
const keepBuffer = 64 << 10

func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}
