//go:build !unix

package sockets

import "syscall"

func newWriter() writer { return writeWithDeadline }

func resendSoon(syscall.RawConn) {}
