package sockets

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// A sock is the connection that gorilla gets. The close frames that gorilla writes by itself (as an
// answer, for a protocol error, for a message that is too long) go through the loop, so that they
// never land inside another frame.
type sock struct {
	*net.TCPConn
	raw  syscall.RawConn // of TCPConn
	conn *Conn
}

// Write is called with whole frames, after the upgrade only with a close frame.
func (s *sock) Write(b []byte) (int, error) {
	if s.conn.ws == nil { // gorilla answers the handshake
		return s.TCPConn.Write(b)
	}
	s.conn.end(append([]byte(nil), b...))
	return len(b), nil
}

// SetWriteDeadline is called by gorilla, which gives a close frame a second. After the handshake the
// loop's closeWait counts instead.
func (s *sock) SetWriteDeadline(t time.Time) error {
	if s.conn.ws != nil {
		return nil
	}
	return s.TCPConn.SetWriteDeadline(t)
}

// sendBuffer is the size in bytes of a socket's send buffer. Linux doubles the size, and counts the
// 128 KiB of a peer that does not read as the pod's memory. Without a set size Linux would keep 4
// MB.
const sendBuffer = 64 << 10

// A hijacker hands gorilla a sock in place of the socket, which has to be plain TCP: the loop
// writes to it past net.Conn.
type hijacker struct {
	http.ResponseWriter
	sock *sock
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, nil, errors.New("the websocket is served over plain TCP only")
	}
	tcp.SetWriteBuffer(sendBuffer) // an error means that the socket is gone, which its reader will see
	h.sock.TCPConn = tcp
	if h.sock.raw, err = tcp.SyscallConn(); err == nil {
		resendSoon(h.sock.raw)
	}
	return h.sock, rw, err
}

// A writer of the loop hands bytes to a socket, and returns how many the socket took. Fewer than
// len(b) without an error means that the socket is full.
type writer func(s *sock, b []byte) (int, error)

// writeWithDeadline is the writer for systems without a write that does not wait. A full socket
// costs the loop a millisecond.
func writeWithDeadline(s *sock, b []byte) (int, error) {
	s.TCPConn.SetWriteDeadline(time.Now().Add(time.Millisecond))
	n, err := s.TCPConn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}
