//go:build unix

package sockets

import (
	"net"
	"syscall"
)

// A nonblocking writes to sockets without ever waiting. It belongs to one goroutine; one
// closure serves all sockets, so a write does not allocate.
type nonblocking struct {
	try func(fd uintptr) bool
	b   []byte // what try writes
	n   int    // what the socket took
	err error  // what it said
}

func newNonblocking() *nonblocking {
	w := &nonblocking{}
	w.try = func(fd uintptr) bool {
		for {
			w.n, w.err = syscall.Write(int(fd), w.b)
			if w.err != syscall.EINTR {
				return true // never wait for the socket to become writable
			}
		}
	}
	return w
}

// write returns how much the socket took; less than len(b) without an error means that it is
// full.
func (w *nonblocking) write(socket syscall.RawConn, b []byte) (int, error) {
	w.b = b
	err := socket.Write(w.try)
	w.b = nil // do not keep the log's memory
	if err != nil {
		return 0, err
	}
	if w.err == syscall.EAGAIN {
		return 0, nil
	}
	return max(w.n, 0), w.err
}

// rawConn returns what a nonblocking needs, or nil if c is not a plain TCP socket.
func rawConn(c net.Conn) syscall.RawConn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// writeAll writes all of b, and says whether it had to wait for the socket; the socket's write
// deadline bounds the wait.
func writeAll(socket syscall.RawConn, b []byte) (waited bool, err error) {
	var failed error
	err = socket.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, err := syscall.Write(int(fd), b)
			switch {
			case err == syscall.EAGAIN:
				waited = true
				return false
			case err == syscall.EINTR:
			case err != nil:
				failed = err
				return true
			default:
				b = b[n:]
			}
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return waited, err
}
