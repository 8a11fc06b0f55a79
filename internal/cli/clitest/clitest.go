// Package clitest is test support: kafkawrite and kafkaread as processes that a test starts, feeds,
// interrupts and waits for.
package clitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rogpeppe/go-internal/testscript"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// Patience is the timeout for what takes a healthy Kafka milliseconds: other tests keep the machine
// busy.
const Patience = 60 * time.Second

// Main is for TestMain of a program's package. Main puts program and other on the PATH. Program is
// the test binary itself, so that a change of the program is a change of the test. Main builds
// other, without the race detector.
func Main(m *testing.M, program string, main func(), other string) {
	testscript.Main(runner(func() int {
		dir, err := os.MkdirTemp("", "tools-")
		defer os.RemoveAll(dir)
		_, unread := os.ReadFile(filepath.Join("..", other, "main.go")) // go test then runs again when the file changes
		out, failed := exec.Command("go", "build", "-o", dir, "kafkachat/"+other).CombinedOutput()
		if err := errors.Join(err, unread, failed); err != nil {
			panic(fmt.Sprintf("building %s: %v\n%s", other, err, out))
		}
		os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
		return m.Run()
	}), map[string]func(){program: main})
}

type runner func() int

func (r runner) Run() int { return r() }

// Scripts runs the scripts in testdata/script. Each has a topic of its own, $TOPIC, which does not
// exist yet, and the command "waitfor FILE PATTERN", which waits until the file has a match.
func Scripts(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "KAFKA_BROKER="+brokers, "TOPIC="+kafkatest.TopicName(t, brokers))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"waitfor": func(ts *testscript.TestScript, _ bool, args []string) {
				read := func() string {
					text, _ := os.ReadFile(ts.MkAbs(args[0])) // an error: not yet there
					return string(text)
				}
				if !Eventually(read, args[1]) {
					ts.Fatalf("%s has no match for %s:\n%s", args[0], args[1], read())
				}
			},
		},
	})
}

// Eventually waits until text returns something that matches. It returns false if that takes longer than Patience.
func Eventually(text func() string, pattern string) bool {
	expr := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if expr.MatchString(text()) {
			return true
		}
	}
	return false
}

// A Process is a running program. It ends with the test.
type Process struct {
	Out, Err Buffer
	Stdin    io.WriteCloser
	Cmd      *exec.Cmd
	Ended    chan struct{} // closed when the program has ended and its output is complete

	t *testing.T
}

// New returns a program for brokers and topic, which is not started yet.
func New(t *testing.T, brokers, topic, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Cmd: exec.Command(program, args...), Ended: make(chan struct{})}
	p.Cmd.Env = append(os.Environ(), "KAFKA_BROKER="+brokers, "TOPIC="+topic)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Out, &p.Err
	var err error
	if p.Stdin, err = p.Cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Start starts p. The end of the test kills it.
func (p *Process) Start() *Process {
	p.t.Helper()
	if err := p.Cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		p.Cmd.Wait()
		close(p.Ended)
	}()
	p.t.Cleanup(func() {
		p.Cmd.Process.Kill()
		<-p.Ended
	})
	return p
}

// Start is New and Start.
func Start(t *testing.T, brokers, topic, program string, args ...string) *Process {
	t.Helper()
	return New(t, brokers, topic, program, args...).Start()
}

// Write feeds the program's standard input. An error is none: the program may have ended.
func (p *Process) Write(text string) { io.WriteString(p.Stdin, text) }

// WaitFor waits until b, which is p.Out or p.Err, has a match.
func (p *Process) WaitFor(b *Buffer, pattern string) {
	p.t.Helper()
	if !Eventually(b.String, pattern) {
		p.t.Fatalf("%s: no match for %s in %.2000q\nstderr: %s", p.Cmd, pattern, b.String(), p.Err.String())
	}
}

// Interrupt sends the signal of Ctrl-C. An error is none: the program may have ended.
func (p *Process) Interrupt() { p.Cmd.Process.Signal(os.Interrupt) }

// WantExit waits for the program's end and checks its exit status.
func (p *Process) WantExit(status int) {
	p.t.Helper()
	select {
	case <-p.Ended:
	case <-time.After(Patience):
		p.t.Fatalf("%s does not end\nstderr: %s", p.Cmd, p.Err.String())
	}
	if got := p.Cmd.ProcessState.ExitCode(); got != status {
		p.t.Errorf("%s: exit status %d, want %d\nstderr: %s", p.Cmd, got, status, p.Err.String())
	}
}

// A Buffer may be read while the program writes to it.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Numbers returns the numbers from ... to-1, as lines.
func Numbers(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// Stored returns the records of partition 0 as lines.
func Stored(t *testing.T, brokers, topic string) string {
	t.Helper()
	cluster := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
	consumer := cluster.NewConsumer(t.Context(), "clitest", kafka.Following{ToEnd: true, Patience: Patience})
	defer consumer.Close()
	var b strings.Builder
	for message := range consumer.ConsumePartition(topic, 0, sarama.OffsetOldest).Messages() {
		b.Write(message.Value)
		b.WriteByte('\n')
	}
	if err := consumer.Err(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// WantStored checks the records of the topic, without printing all of them.
func WantStored(t *testing.T, brokers, topic, want string) {
	t.Helper()
	if got := Stored(t, brokers, topic); got != want {
		t.Errorf("the topic holds %d lines, other than the %d that were written", strings.Count(got, "\n"), strings.Count(want, "\n"))
	}
}
