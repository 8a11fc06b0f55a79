package sockets_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

// BenchmarkFanout compares this package's way to bring each message to all clients with the least
// that such a server can do: a write(2) for each client of the messages that have gathered during the
// writes before. Loopback sockets, real websockets; the server is a process of its own, so that its CPU
// time and memory are its own. A run takes 2 s whatever b.N is.
//
//	go test -run '^$' -bench Fanout -count 5 ./chatserver/internal/sockets    medians are compared
//
// cpu-ns/delivery is user and system time of the server's process, over the messages sent times
// the clients; x-bare is how many times that of the bare loop it is.
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	for _, rate := range []int{200, 2000} {
		var bare []float64 // CPU of its runs
		for _, name := range []string{"bare", "raw", "chat.v1"} {
			b.Run(fmt.Sprintf("rate=%d/%s", rate, name), func(b *testing.B) {
				s := startServer(b, name)
				s.connect(clients)
				s.run(200*time.Millisecond, 100) // warm
				begun := time.Now()
				m := s.run(2*time.Second, rate)
				deliveries := float64(m.Sent) * clients
				cpu := float64(m.CPU) / deliveries
				if name == "bare" {
					bare = append(bare, cpu)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(cpu, "cpu-ns/delivery")
				b.ReportMetric(float64(m.Mallocs)/deliveries, "allocs/delivery")
				b.ReportMetric(deliveries/time.Since(begun).Seconds(), "deliveries/s")
				if len(bare) > 0 {
					slices.Sort(bare)
					b.ReportMetric(cpu/bare[len(bare)/2], "x-bare")
				}
			})
		}
	}
}

// BenchmarkFanoutIdle measures the resident memory of a server for a connection on which nothing
// happens, kernel buffers aside.
func BenchmarkFanoutIdle(b *testing.B) {
	const clients = 4000
	for _, name := range []string{"bare", "raw"} {
		b.Run(name, func(b *testing.B) {
			s := startServer(b, name)
			before := s.ask("settle", 0, 0)
			s.connect(clients)
			after := s.ask("measure", 0, 0)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(after.RSS-before.RSS)/clients, "RSS-B/conn")
		})
	}
}

// A serverProcess is this test's binary as a server, and the clients of it.
type serverProcess struct {
	b        *testing.B
	name     string
	addr     string
	in       *json.Encoder
	out      *json.Decoder
	clients  int64
	received atomic.Int64 // bytes of all clients
	expected int64
}

// A question is what the server's process is asked: to "measure", to "settle" before that, so that what
// serves handshakes is gone, or to "send" for so many milliseconds so many messages a second.
type question struct {
	What               string
	Milliseconds, Rate int
}

// A measure is the server's answer.
type measure struct {
	Sent    int64 // messages
	Bytes   int64 // of them as frames
	CPU     int64 // ns since the start
	Mallocs int64 // since the start
	RSS     int64 // bytes
}

const nameVariable = "FANOUT_NAME"

func startServer(b *testing.B, name string) *serverProcess {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nameVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if errIn != nil || errOut != nil || cmd.Start() != nil {
		b.Fatal("the server does not start")
	}
	b.Cleanup(func() {
		in.Close() // ends it
		cmd.Wait()
	})
	lines := bufio.NewReader(out)
	addr, err := lines.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &serverProcess{b: b, name: name, addr: strings.TrimSpace(addr), in: json.NewEncoder(in), out: json.NewDecoder(lines)}
}

func (s *serverProcess) ask(what string, milliseconds, rate int) (m measure) {
	s.b.Helper()
	if err := s.in.Encode(question{what, milliseconds, rate}); err != nil {
		s.b.Fatal(err)
	}
	if err := s.out.Decode(&m); err != nil {
		s.b.Fatal(err)
	}
	return m
}

func (s *serverProcess) connect(clients int) {
	var protocol []string
	if s.name == chat.Protocol {
		protocol = []string{"Sec-WebSocket-Protocol: " + chat.Protocol}
	}
	for range clients {
		c, err := dial(s.b, s.addr, "/", 0, protocol...)
		if err != nil {
			s.b.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Time{})
		c.send(opPong|fin, nil) // a sign of life, so that none is asked for
		go func() {
			buf := make([]byte, 8<<10)
			for {
				n, err := c.conn.Read(buf)
				if s.received.Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
	s.clients += int64(clients)
	s.ask("settle", 0, 0)
}

// run has messages sent at rate, and waits until all clients have all of them.
func (s *serverProcess) run(d time.Duration, rate int) measure {
	before := s.ask("measure", 0, 0)
	sent := s.ask("send", int(d/time.Millisecond), rate)
	s.expected += sent.Bytes * s.clients
	until(s.b, "all clients have everything", func() bool { return s.received.Load() == s.expected })
	after := s.ask("measure", 0, 0)
	return measure{Sent: sent.Sent, CPU: after.CPU - before.CPU, Mallocs: after.Mallocs - before.Mallocs}
}

func TestMain(m *testing.M) {
	name := os.Getenv(nameVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	var f fanout = newLoopFanout(name)
	if name == "bare" {
		f = newBare()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(ln, http.HandlerFunc(f.join))
	fmt.Println(ln.Addr())
	out := json.NewEncoder(os.Stdout)
	n := int64(0)
	for in := json.NewDecoder(os.Stdin); ; {
		var q question
		if in.Decode(&q) != nil {
			return
		}
		var a measure
		switch q.What {
		case "settle":
			time.Sleep(300 * time.Millisecond)
			debug.FreeOSMemory()
		case "send":
			begun, d := time.Now(), time.Duration(q.Milliseconds)*time.Millisecond
			for due := time.Duration(0); due < d && time.Since(begun) < d; n++ {
				time.Sleep(due - time.Since(begun))
				a.Bytes += int64(f.send(n))
				a.Sent++
				due = time.Duration(a.Sent) * time.Second / time.Duration(q.Rate)
			}
		}
		out.Encode(a.ofProcess())
	}
}

func (a measure) ofProcess() measure {
	var usage syscall.Rusage
	var memory runtime.MemStats
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	runtime.ReadMemStats(&memory)
	var pages, resident int64
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		fmt.Sscan(string(statm), &pages, &resident)
	}
	a.CPU, a.Mallocs, a.RSS = usage.Utime.Nano()+usage.Stime.Nano(), int64(memory.Mallocs), resident*int64(os.Getpagesize())
	return a
}

// A fanout is one way to bring messages to clients.
type fanout interface {
	join(w http.ResponseWriter, r *http.Request) // a client comes
	send(n int64) (length int)                   // message n to all; one goroutine calls it. Bytes of the frame
}

// payload returns 128 bytes of text.
func payload(n int64) string { return fmt.Sprintf("%0127d\n", n) }

// bare writes the messages that came during a pass over the clients with one write(2) for each client.
type bare struct {
	wake chan struct{}

	mu       sync.Mutex // guards the following
	gathered []byte
	conns    []net.Conn
}

func newBare() *bare {
	f := &bare{wake: make(chan struct{}, 1)}
	go func() {
		var b []byte
		for range f.wake {
			f.mu.Lock()
			b, f.gathered = f.gathered, b[:0]
			conns := f.conns
			f.mu.Unlock()
			for _, conn := range conns {
				if _, err := conn.Write(b); err != nil {
					panic(err)
				}
			}
		}
	}()
	return f
}

func (f *bare) join(w http.ResponseWriter, r *http.Request) {
	ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, ws.NetConn())
}

func (f *bare) send(n int64) int {
	frame := text(payload(n))
	f.mu.Lock()
	f.gathered = append(f.gathered, frame...)
	f.mu.Unlock()
	signal(f.wake)
	return len(frame)
}

// loopFanout is the loop of this package, on a log with both encodings of each message.
type loopFanout struct {
	name     string
	log      *framelog.Log
	loop     *sockets.Loop
	upgrader websocket.Upgrader

	raw, event []byte
}

func newLoopFanout(name string) *loopFanout {
	f := &loopFanout{name: name, log: framelog.New(16<<20, 2, 0)}
	f.loop = sockets.NewLoop(f.log)
	f.upgrader = websocket.Upgrader{Subprotocols: []string{chat.Protocol}, ReadBufferSize: 256, WriteBufferPool: &sync.Pool{}}
	go f.loop.Run(context.Background())
	return f
}

func (f *loopFanout) join(w http.ResponseWriter, r *http.Request) {
	c, err := f.loop.Upgrade(w, r, &f.upgrader, func(protocol string) sockets.Options {
		o := sockets.Options{Limit: limit, Place: func(log *framelog.Log) (sockets.Placement, bool) {
			return sockets.Placement{From: log.Newest(0)}, true
		}}
		if protocol == chat.Protocol {
			o.Track, o.Notices = 1, true
		}
		return o
	})
	if err != nil {
		panic(err)
	}
	go func() {
		defer c.Finish()
		for err == nil {
			_, err = c.Read()
		}
	}()
}

func (f *loopFanout) send(n int64) int {
	m := chat.Message{Offset: n, Time: time.UnixMilli(1e12 + n), ID: "f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11", Name: "Ada", Pod: "pod-1", Text: payload(n)}
	p := framelog.Position{Offset: n, Sum: uint32(n)}
	f.raw = sockets.AppendText(f.raw[:0], []byte(m.Text))
	f.event = sockets.AppendText(f.event[:0], chat.MessageEvent(m, p.String()))
	f.log.Append(p, f.raw, f.event)
	f.loop.Wake()
	if f.name == chat.Protocol {
		return len(f.event)
	}
	return len(f.raw)
}
