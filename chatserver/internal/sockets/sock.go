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

// A sock is the connection that gorilla gets: it reads from the socket, but what gorilla writes by
// itself after the upgrade, close frames for protocol errors, for messages that are too big and as
// answers, goes through the loop, so that it never lands inside another frame. (The deadline of a
// second that gorilla sets for such a write is the one that every end has.)
type sock struct {
	*net.TCPConn
	raw  syscall.RawConn // of TCPConn, for a writer
	conn *Conn
}

func (s *sock) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if n > 0 {
		s.conn.heard.Store(true)
	}
	return n, err
}

// Write is called with one whole frame, and after the upgrade only for a close frame.
func (s *sock) Write(b []byte) (int, error) {
	if s.conn.ws == nil { // gorilla answers the handshake
		return s.TCPConn.Write(b)
	}
	s.conn.end(append([]byte(nil), b...))
	return len(b), nil
}

// sendBuffer is the size in bytes of a socket's send buffer; Linux doubles it for what it keeps
// beside the data. So the kernel keeps 128 KiB for a peer that does not read, and counts them as
// the pod's; left to itself it would keep 4 MB.
const sendBuffer = 64 << 10

// A hijacker hands gorilla a sock in place of the socket. The loop writes to the socket itself, so
// the connection has to be plain TCP, without TLS.
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
	tcp.SetWriteBuffer(sendBuffer) // an error is of a socket that is gone, which its reader will see
	h.sock.TCPConn = tcp
	h.sock.raw, err = tcp.SyscallConn()
	resendSoon(h.sock.raw)
	return h.sock, rw, err
}

// A writer hands bytes to a socket. It returns how many the socket took; fewer than len(b) without
// an error means that the socket is full. It belongs to the loop's goroutine.
type writer func(s *sock, b []byte) (int, error)

// writeWithDeadline is the writer where there is no write that does not wait. Asking a full socket
// costs the loop a millisecond.
func writeWithDeadline(s *sock, b []byte) (int, error) {
	// An error is of a closed socket, as the write's is.
	s.TCPConn.SetWriteDeadline(time.Now().Add(time.Millisecond))
	n, err := s.TCPConn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}
