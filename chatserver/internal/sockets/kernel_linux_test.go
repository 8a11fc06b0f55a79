package sockets_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFanout is what a message to a client costs, with the client's reading. A run takes 2 s.
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	for _, rate := range []int{200, 2000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			s := newTCP(b, 16<<20)
			for range clients {
				c := s.join(0)
				c.conn.SetReadDeadline(time.Time{})
				go io.Copy(io.Discard, c.conn)
			}
			frame := text(strings.Repeat("x", 128))
			begun, cpu := time.Now(), cpuTime()
			for n := range 2 * rate {
				time.Sleep(time.Duration(n)*time.Second/time.Duration(rate) - time.Since(begun))
				s.appendFrames(frame, nil)
			}
			until(b, "all is delivered", func() bool { return s.loop.Stats().Deliveries == int64(2*rate*clients) })
			b.ReportMetric(0, "ns/op")
			b.ReportMetric((cpuTime()-cpu)/float64(2*rate*clients), "cpu-ns/delivery")
			b.ReportMetric(float64(2*rate*clients)/time.Since(begun).Seconds(), "deliveries/s")
		})
	}
}

func cpuTime() (ns float64) {
	var usage unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

// The kernel keeps little for a client that does not read, and soon sends again what was lost.
func TestKernel(t *testing.T) {
	s := newServer(t, 64<<20)
	accepted := make(chan *net.TCPConn, 1)
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		accepted <- c.(*net.TCPConn)
		return ctx
	}
	s.http.Start()
	s.join(4096)
	raw, err := (<-accepted).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s.makeSlow()
	s.fill(16 << 20)
	for before, queued := -1, 0; before != queued; time.Sleep(200 * time.Millisecond) {
		before = queued
		raw.Control(func(fd uintptr) {
			if queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil || queued == 0 || queued > 256<<10 {
				t.Errorf("the kernel keeps %d bytes, %v", queued, err)
			}
			// A loss cannot be brought about. A kernel before Linux 6.15 chooses for itself.
			if most, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS); err == nil && most > 5000 {
				t.Errorf("the kernel waits for up to %d ms", most)
			}
		})
	}
}
