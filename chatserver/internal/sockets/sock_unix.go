//go:build unix

package sockets

import (
	"io"
	"os"
	"runtime"
	"syscall"
)

// Read goes past net.Conn, whose frames on the stack are 150 bytes larger: see Conn.Read.
func (s *sock) Read(b []byte) (n int, err error) {
	closed := s.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	switch {
	case closed != nil:
		return 0, closed
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	s.conn.heard.Store(true)
	return n, nil
}

// newWriter returns a writer that never waits. One closure serves all sockets, so a write does not
// allocate.
func newWriter() writer {
	var b []byte
	var n int
	var err error
	try := func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), b)
		return true // never wait for the socket to become writable
	}
	return func(s *sock, frames []byte) (int, error) {
		b = frames
		closed := s.raw.Write(try)
		b = nil // do not keep the log's memory
		switch {
		case closed != nil:
			return 0, closed
		case err == syscall.EAGAIN, err == syscall.EINTR:
			return 0, nil
		}
		return max(n, 0), err
	}
}

// resendSoon bounds the pause before the kernel sends again what the peer's kernel has dropped.
// Without a bound each pause is twice the one before: a peer that reads again after 15 s would wait
// nearly as long once more. Linux has had the option since 6.15. With the option the kernel gives up
// 61 s after the peer's last sign of life (tcp_retries2 = 15); a shorter pause would make that less
// than deadAfter.
func resendSoon(socket syscall.RawConn) {
	const optionRTOMaxMS, pause = 44, 5000 // TCP_RTO_MAX_MS, in ms
	if runtime.GOOS == "linux" {
		socket.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, optionRTOMaxMS, pause)
		})
	}
}
