package sockets_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFanout measures what a message to a client costs: CPU time of this process, which is the
// server, over the messages sent times the clients, which are a process of their own. Loopback
// sockets, real websockets. A run takes 2 s whatever b.N is.
//
//	go test -run '^$' -bench Fanout -count 5 ./chatserver/internal/sockets    medians are compared
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	if addr := os.Getenv("FANOUT_SERVER"); addr != "" {
		fanoutClients(b, addr, clients)
	}
	for _, rate := range []int{200, 2000} {
		for name, header := range map[string]string{"raw": "X-Nothing: 1", "chat.v1": notices} {
			b.Run(fmt.Sprintf("rate=%d/%s", rate, name), func(b *testing.B) {
				s := newTCP(b, 16<<20)
				others := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=Fanout")
				others.Env = append(os.Environ(), "FANOUT_SERVER="+s.http.Listener.Addr().String(), "FANOUT_HEADER="+header)
				end, err := others.StdinPipe()
				if err != nil || others.Start() != nil {
					b.Fatal("the clients do not start")
				}
				b.Cleanup(func() {
					end.Close()
					others.Wait()
				})
				s.wantConns(clients)
				s.fanout(100, 20, clients) // warm
				begun, deliveries := time.Now(), float64(2*rate*clients)
				cpu, mallocs := used()
				s.fanout(rate, 2*rate, clients)
				cpuNow, mallocsNow := used()
				b.ReportMetric(0, "ns/op")
				b.ReportMetric((cpuNow-cpu)/deliveries, "cpu-ns/delivery")
				b.ReportMetric((mallocsNow-mallocs)/deliveries, "allocs/delivery")
				b.ReportMetric(deliveries/time.Since(begun).Seconds(), "deliveries/s")
			})
		}
	}
}

// fanout sends so many messages a second, and waits until all clients have all.
func (s *server) fanout(rate, messages int, clients int64) {
	before, begun := s.stats().Deliveries, time.Now()
	raw, event := text(strings.Repeat("x", 128)), text(strings.Repeat("x", 290)) // an event of chat.v1 is so long
	for n := range messages {
		time.Sleep(time.Duration(n)*time.Second/time.Duration(rate) - time.Since(begun))
		s.appendFrames(raw, event)
	}
	until(s.t, "all is delivered", func() bool { return s.stats().Deliveries == before+int64(messages)*clients })
}

// fanoutClients connects the clients, reads until standard input ends, and ends the process.
func fanoutClients(b *testing.B, addr string, clients int) {
	for range clients {
		c, err := dial(b, addr, "/", 0, os.Getenv("FANOUT_HEADER"))
		if err != nil {
			b.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, c.r)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// used returns the CPU time in ns and the number of allocations of this process.
func used() (cpu, mallocs float64) {
	var usage unix.Rusage
	var memory runtime.MemStats
	unix.Getrusage(unix.RUSAGE_SELF, &usage)
	runtime.ReadMemStats(&memory)
	return float64(usage.Utime.Nano() + usage.Stime.Nano()), float64(memory.Mallocs)
}

// What the kernel keeps for a client that does not read is bounded, as what the server keeps is. And
// the kernel does not wait for minutes before it tries again to send to a client that reads again:
// that it loses what it has sent cannot be brought about at will, so this looks at the socket's option.
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
			switch most, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS); {
			case err != nil:
				t.Logf("this kernel chooses for itself: %v", err) // before Linux 6.15
			case most > 5000:
				t.Errorf("the kernel waits for up to %d ms", most)
			}
		})
	}
}
