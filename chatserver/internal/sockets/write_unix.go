//go:build unix

package sockets

import "syscall"

// A nonblocking writes to sockets without ever waiting. One closure serves all sockets, so a
// write does not allocate.
type nonblocking struct {
	try func(fd uintptr) bool
	b   []byte // what try writes
	n   int    // what the socket took
	err error  // what the socket said
}

func newWriter() writer {
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

func (w *nonblocking) write(s *sock, b []byte) (int, error) {
	w.b = b
	err := s.raw.Write(w.try)
	w.b = nil // do not keep the log's memory
	if err != nil {
		return 0, err
	}
	if w.err == syscall.EAGAIN {
		return 0, nil
	}
	return max(w.n, 0), w.err
}
