package sockets

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// A sock is the connection that gorilla gets: it reads from the socket, but what gorilla
// writes by itself after the upgrade, close frames for protocol errors and for messages that
// are too big, goes through the loop, so that it never lands inside another frame.
type sock struct {
	*net.TCPConn
	raw      syscall.RawConn // of TCPConn, for write
	conn     *Conn
	upgraded bool
	scanner  scanner
	clock    clock
}

func (s *sock) Read(b []byte) (int, error) {
	if s.clock == started {
		s.conn.runClock()
	}
	n, err := s.TCPConn.Read(b)
	if n > 0 {
		if !s.conn.heard.Load() {
			s.conn.heard.Store(true)
		}
		s.scanner.scan(b[:n])
	}
	return n, err
}

// Write is called with one whole frame, and after the upgrade only for a close frame.
func (s *sock) Write(b []byte) (int, error) {
	if !s.upgraded {
		return s.TCPConn.Write(b)
	}
	s.conn.end(append([]byte(nil), b...))
	return len(b), nil
}

// SetWriteDeadline of gorilla's is for its own writes; it must not touch the loop's.
func (s *sock) SetWriteDeadline(t time.Time) error {
	if !s.upgraded {
		return s.TCPConn.SetWriteDeadline(t)
	}
	return nil
}

// sendBuffer is the size in bytes of a socket's send buffer; Linux doubles it for what it keeps
// beside the data. So the kernel keeps 128 KiB for a peer that does not read, and counts them as the
// pod's; left to itself it would keep 4 MB.
const sendBuffer = 64 << 10

var errNotTCP = errors.New("the websocket is served over plain TCP only")

// overTCP says whether a request has come over TCP and without TLS.
func overTCP(r *http.Request) bool {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	_, tcp := addr.(*net.TCPAddr)
	return tcp && r.TLS == nil
}

// A hijacker hands gorilla a sock in place of the socket.
type hijacker struct {
	http.ResponseWriter
	sock *sock
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	inner, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this HTTP connection cannot become a websocket")
	}
	conn, rw, err := inner.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if h.sock.TCPConn, ok = conn.(*net.TCPConn); !ok {
		conn.Close()
		return nil, nil, errNotTCP
	}
	h.sock.raw, err = h.sock.SyscallConn()
	return h.sock, rw, err
}
