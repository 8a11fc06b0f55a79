//go:build !unix

package sockets

import "syscall"

func (s *sock) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if n > 0 {
		s.conn.heard.Store(true)
	}
	return n, err
}

func newWriter() writer { return writeWithDeadline }

func resendSoon(syscall.RawConn) {}
