//go:build !linux

package wsconn

import "syscall"

// resendSoon is for Linux.
func resendSoon(syscall.RawConn) {}
