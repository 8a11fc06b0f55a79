//go:build !unix

package sockets

import (
	"net"
	"syscall"
)

// Where sockets cannot be written to without waiting, every connection has a goroutine of its
// own: rawConn says so, and a nonblocking is never used.
type nonblocking struct{}

func newNonblocking() *nonblocking { return &nonblocking{} }

func (*nonblocking) write(syscall.RawConn, []byte) (int, error) { return 0, net.ErrClosed }

func rawConn(net.Conn) syscall.RawConn { return nil }

func writeAll(syscall.RawConn, []byte) (bool, error) { return false, net.ErrClosed }
