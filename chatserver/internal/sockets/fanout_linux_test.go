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

// BenchmarkFanout measures what a message to a client costs: CPU time of a server in a process of its
// own, over the messages sent times the clients. Loopback sockets, real websockets. A run takes 2 s
// whatever b.N is.
//
//	go test -run '^$' -bench Fanout -count 5 ./chatserver/internal/sockets    medians are compared
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	for _, rate := range []int{200, 2000} {
		for _, name := range []string{"raw", chat.Protocol} {
			b.Run(fmt.Sprintf("rate=%d/%s", rate, name), func(b *testing.B) {
				s := startServer(b, name)
				s.connect(clients)
				s.run(200*time.Millisecond, 100) // warm
				begun := time.Now()
				m := s.run(2*time.Second, rate)
				deliveries := float64(m.Sent) * clients
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(m.CPU)/deliveries, "cpu-ns/delivery")
				b.ReportMetric(float64(m.Mallocs)/deliveries, "allocs/delivery")
				b.ReportMetric(deliveries/time.Since(begun).Seconds(), "deliveries/s")
			})
		}
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

// A question has the server send so many messages a second for so long.
type question struct {
	During time.Duration
	Rate   int
}

// A measure is the server's answer.
type measure struct {
	Sent    int64 // messages
	Bytes   int64 // of them as frames
	CPU     int64 // ns since the start
	Mallocs int64 // since the start
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

func (s *serverProcess) ask(q question) (m measure) {
	s.b.Helper()
	if err := s.in.Encode(q); err != nil {
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
}

// run has messages sent at rate, and waits until all clients have all of them.
func (s *serverProcess) run(d time.Duration, rate int) measure {
	before := s.ask(question{})
	sent := s.ask(question{d, rate})
	s.expected += sent.Bytes * s.clients
	until(s.b, "all clients have everything", func() bool { return s.received.Load() == s.expected })
	after := s.ask(question{})
	return measure{Sent: sent.Sent, CPU: after.CPU - before.CPU, Mallocs: after.Mallocs - before.Mallocs}
}

func TestMain(m *testing.M) {
	name := os.Getenv(nameVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	f := newFanout(name)
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
		begun := time.Now()
		for due := time.Duration(0); due < q.During && time.Since(begun) < q.During; n++ {
			time.Sleep(due - time.Since(begun))
			a.Bytes += int64(f.send(n))
			a.Sent++
			due = time.Duration(a.Sent) * time.Second / time.Duration(q.Rate)
		}
		var usage syscall.Rusage
		var memory runtime.MemStats
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		runtime.ReadMemStats(&memory)
		a.CPU, a.Mallocs = usage.Utime.Nano()+usage.Stime.Nano(), int64(memory.Mallocs)
		out.Encode(a)
	}
}

// A fanout is the loop on a log with both encodings of each message.
type fanout struct {
	name     string
	log      *framelog.Log
	loop     *sockets.Loop
	upgrader websocket.Upgrader

	raw, event []byte
}

func newFanout(name string) *fanout {
	f := &fanout{name: name, log: framelog.New(16<<20, 2, 0)}
	f.loop = sockets.NewLoop(f.log)
	f.upgrader = websocket.Upgrader{Subprotocols: []string{chat.Protocol}, ReadBufferSize: 256, WriteBufferPool: &sync.Pool{}}
	go f.loop.Run(context.Background())
	return f
}

func (f *fanout) join(w http.ResponseWriter, r *http.Request) {
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

// send sends message n to all, and returns the bytes of a frame.
func (f *fanout) send(n int64) int {
	m := chat.Message{Offset: n, Time: time.UnixMilli(1e12 + n), ID: "f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11", Name: "Ada", Pod: "pod-1", Text: fmt.Sprintf("%0127d\n", n)}
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
