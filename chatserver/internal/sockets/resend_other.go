//go:build !linux

package sockets

import "syscall"

// resendSoon is for Linux.
func resendSoon(syscall.RawConn) {}
