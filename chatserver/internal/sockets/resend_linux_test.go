package sockets_test

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel does not wait for minutes before it tries again to send to a client that reads again.
// That the kernel loses what it has sent cannot be brought about at will; this looks at the
// socket's option.
func TestKernelResendsSoon(t *testing.T) {
	t.Parallel()
	s := newServer(t, 1<<20)
	accepted := make(chan *net.TCPConn, 1)
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		accepted <- c.(*net.TCPConn)
		return ctx
	}
	s.http.Start()
	s.dial("/", 0).want("hello", "live")
	raw, err := (<-accepted).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		switch most, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS); {
		case err != nil:
			t.Logf("this kernel chooses for itself: %v", err) // before Linux 6.15
		case most > 5000:
			t.Errorf("the kernel waits for up to %d ms", most)
		}
	})
}
