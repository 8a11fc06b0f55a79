package sockets_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel keeps for a client that does not read is bounded, as what the server keeps is. And
// the kernel does not wait for minutes before it tries again to send to a client that reads again:
// that it loses what it has sent cannot be brought about at will, so this looks at the socket's option.
func TestKernel(t *testing.T) {
	t.Parallel()
	s := newServer(t, 64<<20)
	accepted := make(chan *net.TCPConn, 1)
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		accepted <- c.(*net.TCPConn)
		return ctx
	}
	s.http.Start()
	s.join(4096)
	conn := <-accepted
	raw, err := conn.SyscallConn()
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
	s.makeSlow()
	s.fill(16 << 20)
	for before := -1; ; time.Sleep(200 * time.Millisecond) {
		queued := sendQueue(t, conn.LocalAddr().(*net.TCPAddr).Port)
		if queued == 0 || queued > 256<<10 {
			t.Fatalf("the kernel keeps %d bytes", queued)
		}
		if queued == before {
			return
		}
		before = queued
	}
}

// sendQueue returns how many bytes the kernel keeps to be sent from a local port.
func sendQueue(t *testing.T, port int) (bytes int) {
	t.Helper()
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var n, local, remote, state, queue string
			fmt.Sscan(line, &n, &local, &remote, &state, &queue)
			if strings.HasSuffix(local, fmt.Sprintf(":%04X", port)) && state == "01" { // established
				var q int
				fmt.Sscanf(queue, "%X:", &q)
				bytes += q
			}
		}
	}
	return bytes
}
