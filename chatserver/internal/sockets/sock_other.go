//go:build !unix

package sockets

import "syscall"

// Sockets of this system have no write that does not wait.
func newWriter() writer { return writeWithDeadline }

// resendSoon is for Linux.
func resendSoon(syscall.RawConn) {}
