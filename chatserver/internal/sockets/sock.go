package sockets

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A sock is the connection that gorilla gets: it reads from the socket, but what gorilla
// writes by itself after the upgrade, close frames for protocol errors and for messages that
// are too big, goes through the owner of the writing side, so that it never lands inside
// another frame.
type sock struct {
	net.Conn
	conn     *Conn
	upgraded atomic.Bool
	scanner  scanner // owned by the reader
}

func (s *sock) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.conn.heard.Store(s.conn.loop.now.Load())
		s.scanner.scan(b[:n])
	}
	return n, err
}

// Write is called with one whole frame, and after the upgrade only for a close frame.
func (s *sock) Write(b []byte) (int, error) {
	if !s.upgraded.Load() {
		return s.Conn.Write(b)
	}
	s.conn.end(append([]byte(nil), b...))
	return len(b), nil
}

// SetWriteDeadline of gorilla's is for its own writes; it must not touch the owner's.
func (s *sock) SetWriteDeadline(t time.Time) error {
	if !s.upgraded.Load() {
		return s.Conn.SetWriteDeadline(t)
	}
	return nil
}

// A hijacker hands gorilla a sock in place of the socket.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	inner, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("sockets: this HTTP connection cannot become a websocket")
	}
	netConn, rw, err := inner.Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn.sock = &sock{Conn: netConn, conn: h.conn}
	return h.conn.sock, rw, nil
}
