package sockets

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// resendAfter is the longest pause between two attempts of the kernel to send what the peer's
// kernel has not taken. Each pause is twice the one before, up to two minutes if left to itself:
// a peer whose receive buffer overflows while it does not read for a quarter of a minute, and
// which then reads again, would wait for nearly as long once more. Much shorter than writeWait.
//
// The kernel also gives up sooner, 61 s after a peer has last acknowledged anything instead of
// after a quarter of an hour (tcp_retries2 = 15); shorter pauses would have it do so before
// deadAfter.
const resendAfter = 5 * time.Second

// resendSoon sets resendAfter. Linux knows it from 6.15 on (TCP_RTO_MAX_MS); an older one
// refuses it, and keeps its pauses.
func resendSoon(socket syscall.RawConn) {
	socket.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(resendAfter.Milliseconds()))
	})
}
