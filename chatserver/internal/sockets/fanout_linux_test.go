package sockets_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFanout compares ways to bring each message to all clients, over loopback sockets with
// real websockets. The server of each is a process of its own, so that its CPU time and memory
// are its own; another process reads for all clients, as cheaply as it can. A run takes 2 s
// whatever b.N is; who cannot keep up with the rate sends as fast as it can.
//
//	go test -run '^$' -bench Fanout ./chatserver/internal/sockets             one run of each, a minute
//	go test -run '^$' -bench Fanout -count 5 ./chatserver/internal/sockets    medians are compared
//
// cpu-ns/delivery is user and system time of the server's process, over the messages sent times
// the clients; x-gathered is how many times that of the bare loop with gathered messages it is.
func BenchmarkFanout(b *testing.B) {
	for _, rate := range []int{200, 2000} {
		gathered := []float64{} // CPU of the runs of the first
		for _, name := range []string{"bareGathered", "bare", "thisRaw", "thisChatV1", "labMutexMap", "preparedChannel"} {
			b.Run(fmt.Sprintf("rate=%d/%s", rate, name), func(b *testing.B) {
				const clients = 1000
				r := newRig(b, name, clients)
				m := r.run(2*time.Second, rate)
				deliveries := float64(m.Sent) * clients
				cpu := float64(m.CPU) / deliveries
				if name == "bareGathered" {
					gathered = append(gathered, cpu)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(cpu, "cpu-ns/delivery")
				b.ReportMetric(float64(m.Bytes)/float64(m.Sent), "B/delivery")
				b.ReportMetric(float64(m.Mallocs)/deliveries, "allocs/delivery")
				b.ReportMetric(deliveries/m.took.Seconds(), "deliveries/s")
				if len(gathered) > 0 {
					slices.Sort(gathered)
					b.ReportMetric(cpu/gathered[len(gathered)/2], "x-gathered")
				}
			})
		}
	}
}

// BenchmarkFanoutIdle measures the resident memory of a server for a connection on which nothing
// happens, kernel buffers aside.
func BenchmarkFanoutIdle(b *testing.B) {
	for _, name := range []string{"bare", "thisRaw", "labMutexMap", "preparedChannel"} {
		b.Run(name, func(b *testing.B) {
			const clients = 4000
			r := newRig(b, name, 0)
			before := r.server.ask("rss")
			r.connect(clients)
			after := r.server.ask("rss")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(after.RSS-before.RSS)/clients, "RSS-B/conn")
		})
	}
}

// A rig is a server's process and the readers' process.
type rig struct {
	b               *testing.B
	server, readers *process
	addr, protocol  string
	clients         int
	expected        int64 // bytes that the readers are to have received
}

func newRig(b *testing.B, name string, clients int) *rig {
	r := &rig{b: b, server: start(b, "server", name), readers: start(b, "readers", "")}
	r.addr = r.server.ask("addr").Addr
	if name == "thisChatV1" {
		r.protocol = chatProtocol
	}
	if clients > 0 {
		r.connect(clients)
		r.run(200*time.Millisecond, 100) // warm
	}
	return r
}

func (r *rig) connect(clients int) {
	r.readers.ask("connect", r.addr, clients, r.protocol)
	r.server.ask("joined", clients)
	r.clients += clients
}

// run has messages sent at rate, and waits until all clients have all of them.
func (r *rig) run(d time.Duration, rate int) measure {
	before := r.server.ask("measure")
	begun := time.Now()
	sent := r.server.ask("send", int(d/time.Millisecond), rate)
	r.expected += sent.Length * int64(r.clients)
	if got := r.readers.ask("expect", r.expected); got.Length != r.expected {
		r.b.Fatalf("the clients have received %d bytes, want %d", got.Length, r.expected)
	}
	took := time.Since(begun)
	after := r.server.ask("measure")
	return measure{
		Sent: sent.Sent, CPU: after.CPU - before.CPU, Mallocs: after.Mallocs - before.Mallocs,
		Bytes: sent.Length, took: took,
	}
}

// A measure is what a process answers to a question.
type measure struct {
	Addr    string
	Sent    int64 // messages
	Length  int64 // bytes of them as frames; or bytes received
	CPU     int64 // ns since the start
	Mallocs int64 // since the start
	RSS     int64 // bytes
	Bytes   int64 `json:"-"`
	took    time.Duration
}

// A process is this test's binary in another role: it answers each line with a line.
type process struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Scanner
}

const roleVariable, nameVariable = "FANOUT_ROLE", "FANOUT_NAME"

func start(b *testing.B, role, name string) *process {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, nameVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close() // ends it
		cmd.Wait()
	})
	return &process{b, in, bufio.NewScanner(out)}
}

func (p *process) ask(words ...any) (m measure) {
	p.b.Helper()
	fmt.Fprintln(p.in, words...)
	if !p.out.Scan() {
		p.b.Fatalf("no answer to %v", words)
	}
	if err := json.Unmarshal(p.out.Bytes(), &m); err != nil {
		p.b.Fatalf("%v answered with %s", words, p.out.Bytes())
	}
	return m
}

func TestMain(m *testing.M) {
	var answer func(words []string) (measure, error)
	switch os.Getenv(roleVariable) {
	case "server":
		answer = newBenchServer(os.Getenv(nameVariable)).answer
	case "readers":
		answer = newReaders().answer
	default:
		os.Exit(m.Run())
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		m, err := answer(strings.Fields(in.Text()))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		line, _ := json.Marshal(m)
		fmt.Printf("%s\n", line)
	}
}

// number reads a word that the other side wrote.
func number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return n
}
