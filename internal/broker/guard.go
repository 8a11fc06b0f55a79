package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	// maxConns bounds what clients can cost while they do nothing: an idle
	// connection holds three goroutines of kfake, about 15 KB. A pod has four.
	maxConns = 256

	// requestTimeout is how long a request may take from its first byte to its
	// last, and a new connection to its first request. After that a connection
	// may be silent for as long as it likes, as a quiet chat is.
	requestTimeout = 10 * time.Second

	// answerTimeout is how long a client may take to read an answer.
	answerTimeout = 30 * time.Second
)

// guard is the listener that kfake accepts connections from. A connection that
// it returns reads as a sequence of requests that [admit] has found to be well
// formed, and as nothing else: kfake panics on an api key that it does not know
// and allocates whatever a length prefix says, and any web page can make a
// browser send bytes to a port on loopback. A client that breaks the rules loses
// its connection; nobody else notices.
type guard struct {
	net.Listener
	known *kversion.Versions // the requests that may pass
	log   *slog.Logger
	done  chan struct{} // closed by Close

	mu     sync.Mutex // guards what follows; never held during I/O
	conns  map[*guardedConn]struct{}
	closed bool
}

func newGuard(ln net.Listener, known *kversion.Versions, log *slog.Logger) *guard {
	return &guard{Listener: ln, known: known, log: log, done: make(chan struct{}), conns: make(map[*guardedConn]struct{})}
}

// Accept goes on after an error that passes (no free file descriptor): kfake
// stops listening for good at the first error that it sees.
func (g *guard) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		switch {
		case err == nil:
			if c, ok := g.add(conn); ok {
				return c, nil
			}
			conn.Close()
			return nil, net.ErrClosed
		case errors.Is(err, net.ErrClosed):
			return nil, err
		}
		g.log.Warn("embedded broker cannot accept a connection", "err", err)
		select {
		case <-g.done:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// add registers a connection. If there are too many, the most useless one goes:
// the one that has been silent longest among those that never sent a request,
// or else among all.
func (g *guard) add(conn net.Conn) (*guardedConn, bool) {
	c := &guardedConn{Conn: conn, guard: g, last: time.Now()}
	var victim *guardedConn
	defer func() {
		if victim != nil {
			g.log.Debug("embedded broker has too many connections, closing one", "remote", victim.RemoteAddr().String())
			victim.Close()
		}
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false
	}
	if len(g.conns) >= maxConns {
		for c := range g.conns {
			if victim == nil || c.goesBefore(victim) {
				victim = c
			}
		}
		delete(g.conns, victim)
	}
	g.conns[c] = struct{}{}
	return c, true
}

// Close closes the listener and every connection. It may be called again.
func (g *guard) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	conns := g.conns
	g.conns = nil
	g.mu.Unlock()
	close(g.done)
	err := g.Listener.Close()
	for c := range conns {
		c.Conn.Close()
	}
	return err
}

// guardedConn is one connection. kfake calls Read from one goroutine at a time
// and Write from one.
type guardedConn struct {
	net.Conn
	guard *guard

	// Guarded by guard.mu.
	requests int
	last     time.Time // of the last request, or of the connection's beginning

	// Owned by Read.
	buf   []byte // of the last request, used again
	ready []byte // admitted and not yet read, with its length prefix
}

// goesBefore says whether c is less useful than d. It needs guard.mu.
func (c *guardedConn) goesBefore(d *guardedConn) bool {
	if (c.requests == 0) != (d.requests == 0) {
		return c.requests == 0
	}
	return c.last.Before(d.last)
}

// Read returns bytes of admitted requests only.
func (c *guardedConn) Read(p []byte) (int, error) {
	if len(c.ready) == 0 {
		if err := c.next(); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				c.guard.log.Debug("embedded broker closes a connection", "remote", c.RemoteAddr().String(), "err", err)
			}
			c.Close()
			return 0, io.EOF
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// next waits for the next request and makes it ready.
func (c *guardedConn) next() error {
	var wait time.Time // none, except for the first request
	if c.requests == 0 {
		wait = time.Now().Add(requestTimeout)
	}
	c.SetReadDeadline(wait)
	var prefix [4]byte
	n, err := io.ReadAtLeast(c.Conn, prefix[:], 1)
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	if _, err := io.ReadFull(c.Conn, prefix[n:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxRequest {
		return fmt.Errorf("a request of %d bytes, the largest allowed has %d", size, maxRequest)
	}
	request, err := c.read(int(size))
	if err != nil {
		return err
	}
	if request, err = admit(request, c.guard.known); err != nil {
		return err
	}
	c.ready = append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)
	c.guard.mu.Lock()
	c.requests++
	c.last = time.Now()
	c.guard.mu.Unlock()
	return nil
}

// read reads size bytes. It takes memory for what has arrived, not for what was
// announced.
func (c *guardedConn) read(size int) ([]byte, error) {
	const first, keep = 1 << 10, 64 << 10
	if cap(c.buf) == 0 || cap(c.buf) > keep {
		c.buf = make([]byte, 0, first)
	}
	buf := c.buf[:0]
	for len(buf) < size {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(2*cap(buf), max(size, first)))
			copy(grown, buf)
			buf = grown
		}
		n, err := c.Conn.Read(buf[len(buf):min(cap(buf), size)])
		buf = buf[:len(buf)+n]
		if err != nil && len(buf) < size {
			return nil, err
		}
	}
	c.buf = buf
	return buf, nil
}

func (c *guardedConn) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(answerTimeout))
	return c.Conn.Write(p)
}

func (c *guardedConn) Close() error {
	c.guard.mu.Lock()
	delete(c.guard.conns, c)
	c.guard.mu.Unlock()
	return c.Conn.Close()
}
