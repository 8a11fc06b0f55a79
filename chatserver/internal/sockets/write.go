package sockets

import (
	"errors"
	"os"
	"time"
)

// A writer hands bytes to a socket. It returns how many the socket took; fewer than len(b) without
// an error means that the socket is full. It belongs to the loop's goroutine.
type writer interface {
	write(s *sock, b []byte) (int, error)
}

// writeWait is how long deadlines wait for a full socket, and so what asking one costs the loop.
const writeWait = time.Millisecond

// deadlines writes with a short deadline, where there is no write that does not wait.
type deadlines struct{}

func (deadlines) write(s *sock, b []byte) (int, error) {
	s.TCPConn.SetWriteDeadline(time.Now().Add(writeWait)) // an error is of a closed socket, as the write's is
	n, err := s.TCPConn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}
