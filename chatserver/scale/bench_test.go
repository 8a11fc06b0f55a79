//go:build scale && linux

package scale

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"golang.org/x/sys/unix"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/child"
	"kafkachat/internal/kafka"
	"kafkachat/internal/realkafka"
)

// A bench is a topic, its pods, and those who use it; or the limit, which has neither.
type bench struct {
	t        *testing.T
	servers  []*podtest.Pod
	topic    string
	producer sarama.SyncProducer // of another program, which writes to the topic past all pods
	loads    []*process
	runs     int
}

func newBench(t *testing.T, brokers, server string, pods int) *bench {
	cluster := kafka.Cluster{Brokers: []string{brokers}}
	producer, err := sarama.NewSyncProducer(cluster.Brokers, cluster.Config(t.Context(), "scale"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close() })
	b := &bench{t: t, topic: "scale-" + rand.Text(), producer: producer}
	for i := range pods {
		name := fmt.Sprint("pod-", i)
		p := podtest.Start(t, server, filepath.Join(t.TempDir(), name), name, "MAX_CONNECTIONS=0", "TOPIC="+b.topic, "KAFKA_BROKER="+brokers)
		p.AwaitReady(t)
		b.servers = append(b.servers, p)
	}
	return b
}

func newLimit(t *testing.T) *bench {
	p, bare := startProcess(t, "bare"), &podtest.Pod{}
	if err := p.out.Decode(&bare.Addr); err != nil {
		t.Fatalf("the limit does not say where it listens: %v", err)
	}
	bare.Process = p.Process
	return &bench{t: t, servers: []*podtest.Pod{bare}}
}

const roleVariable = "SCALE_ROLE" // is set for a process that is not the test

// A process is a load process or the limit, as the test sees it.
type process struct {
	*child.Process
	in  *json.Encoder
	out *json.Decoder
}

func startProcess(t *testing.T, role string) *process {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, noIn := cmd.StdinPipe()
	out, noOut := cmd.StdoutPipe()
	p, err := child.Start(cmd)
	if err := errors.Join(noIn, noOut, err); err != nil {
		t.Fatalf("starting a process: %v", err)
	}
	t.Cleanup(p.Kill)
	return &process{p, json.NewEncoder(in), json.NewDecoder(out)}
}

func (b *bench) ask(c command, loads ...*process) []answer {
	answers, errs := make([]answer, len(loads)), make([]error, len(loads))
	var all sync.WaitGroup
	for i, p := range loads {
		all.Go(func() {
			mine := c
			mine.Host = fmt.Sprintf("127.0.0.%d", 1+i)
			errs[i] = errors.Join(p.in.Encode(mine), p.out.Decode(&answers[i]))
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatalf("load, %s: %v", c.Do, err) // the process says more on standard error
	}
	return answers
}

// connect has clients come, to the servers in turn.
func (b *bench) connect(clients int) {
	const perLoad = 15000 // a process may often have 20,000 descriptors
	loads := (clients + perLoad - 1) / perLoad
	c := command{Do: "connect", Clients: clients / loads}
	for range loads {
		b.loads = append(b.loads, startProcess(b.t, "load"))
	}
	for _, s := range b.servers {
		c.Ports = append(c.Ports, strings.TrimPrefix(s.Addr, "127.0.0.1:"))
	}
	b.ask(c, b.loads...)
}

type use struct {
	took          time.Duration
	servers, load time.Duration // CPU
	busy          float64       // share of the machine's cores
}

func (b *bench) measure(do func()) (u use) {
	var all float64
	add := func(sign float64) {
		for _, s := range b.servers {
			u.servers += time.Duration(sign) * cpuTime(b.t, s.PID())
		}
		for _, p := range b.loads {
			u.load += time.Duration(sign) * cpuTime(b.t, p.PID())
		}
		busyNow, allNow := machineTime()
		u.busy += sign * busyNow
		all += sign * allNow
	}
	add(-1)
	begun := time.Now()
	do()
	u.took = time.Since(begun)
	add(1)
	u.busy /= all
	return u
}

type run struct {
	use
	*Tally
	sent float64 // a second
}

// deliver sends messages, and returns when all clients have them.
func (b *bench) deliver(send func(command) time.Duration, c command) run {
	b.runs++
	c.Run, c.Do = b.runs, "begin"
	b.ask(c, b.loads...)
	r := run{Tally: newTally(c.Messages)}
	r.use = b.measure(func() {
		r.sent = float64(c.Messages) / send(c).Seconds()
		c.Do = "tally"
		for _, a := range b.ask(c, b.loads...) {
			r.merge(a.Tally)
		}
	})
	if wrong := r.wrong(c.Messages); wrong != "" {
		b.t.Error(wrong)
	}
	return r
}

// fromClients has the clients of the first load process send.
func (b *bench) fromClients(c command) time.Duration {
	c.Do = "send"
	return b.ask(c, b.loads[0])[0].Took
}

// fromOutside writes to the topic, so that no pod has the work of publishing.
func (b *bench) fromOutside(c command) time.Duration {
	took, err := c.pace(func(n int) error {
		_, _, err := b.producer.SendMessage(&sarama.ProducerMessage{
			Topic: b.topic, Partition: 0,
			Value:   sarama.ByteEncoder(message(c.Run, n, time.Now())),
			Headers: chat.Headers(chat.Message{ID: rand.Text(), Pod: "outside"}),
		})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return took
}

// rss is the resident memory of all servers, in bytes.
func (b *bench) rss() (sum float64) {
	for _, s := range b.servers {
		var pages, resident int
		fmt.Sscan(read(fmt.Sprintf("/proc/%d/statm", s.PID())), &pages, &resident)
		sum += float64(resident * os.Getpagesize())
	}
	return sum
}

// cpuTime is the user and system time of a process, of all threads that it has and had.
func cpuTime(t *testing.T, pid int) time.Duration {
	const perProcess = 2 // CPUCLOCK_SCHED in the kernel: to the nanosecond, unlike /proc/PID/stat
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcess), &ts); err != nil {
		t.Fatalf("reading the CPU time of process %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// read reads a file of the kernel, all of which there are.
func read(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// machineTime is what all cores have spent since the start, working and in all, in some unit.
func machineTime() (busy, all float64) {
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	fmt.Sscanf(read("/proc/stat"), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
	busy = user + nice + system + irq + softirq + steal
	return busy, busy + idle + iowait
}

func machine() string {
	model := regexp.MustCompile(`model name\s*: (.*)`).FindStringSubmatch(read("/proc/cpuinfo") + "\nmodel name: unknown CPU")[1]
	return fmt.Sprintf("%s, %d cores, for pods, load and Kafka together; Linux %s, %s, Apache Kafka %s, one broker.\n`%s`\n", model,
		runtime.NumCPU(), strings.TrimSpace(read("/proc/sys/kernel/osrelease")), runtime.Version(), realkafka.Version, strings.Join(os.Args[1:], " "))
}
