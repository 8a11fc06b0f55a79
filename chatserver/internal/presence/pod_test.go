package presence_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/presence"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

const (
	patience = 60 * time.Second // for what a busy machine may take
	slack    = time.Second      // on a bound that is being tested
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true
	if spec := os.Getenv("PRESENCE_TEST_POD"); spec != "" {
		podProcess(strings.Split(spec, " "))
		return
	}
	goleak.VerifyTestMain(m)
}

// A pod is a Presence that runs, and what it has shown.
type pod struct {
	t      *testing.T
	name   string
	people atomic.Int64
	cancel context.CancelFunc
	done   chan struct{}
	lag    atomic.Int64 // how late this process was woken up at worst, in nanoseconds

	mu      sync.Mutex
	lists   [][]string
	changed chan struct{} // closed, and made anew, with each list
}

// start runs a pod until it is stopped, at the latest at the test's end.
func start(t *testing.T, brokers, topic, name string) *pod {
	t.Helper()
	p := &pod{t: t, name: name, done: make(chan struct{}), changed: make(chan struct{})}
	var busy atomic.Bool
	onChange := func(pods []presence.Pod) {
		if busy.Swap(true) {
			t.Error("onChange was called concurrently")
		}
		defer busy.Store(false)
		var list []string
		for _, pod := range pods {
			list = append(list, fmt.Sprintf("%s:%d", pod.Name, pod.People))
		}
		if !slices.IsSortedFunc(pods, func(a, b presence.Pod) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("not sorted: %v", list)
		}
		p.mu.Lock()
		p.lists = append(p.lists, list)
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("pod", name)
	presence := presence.New(cluster(brokers), "test-"+name, topic, name, func() int { return int(p.people.Load()) }, onChange, log)
	go func() {
		defer close(p.done)
		presence.Run(ctx)
	}()
	go p.measureLag(ctx)
	t.Cleanup(p.stop)
	return p
}

func (p *pod) measureLag(ctx context.Context) {
	const nap = 20 * time.Millisecond
	for ctx.Err() == nil {
		begun := time.Now()
		time.Sleep(nap)
		p.lag.Store(max(p.lag.Load(), int64(time.Since(begun)-nap)))
	}
}

// allowed is more than a bound on a machine that is too busy to keep it: between two pods there
// are some ten goroutines that have to be woken up.
func (p *pod) allowed(bound time.Duration) time.Duration {
	return bound + 10*time.Duration(p.lag.Load())
}

func (p *pod) stop() {
	p.cancel()
	<-p.done
}

// want waits until the pod shows this list.
func (p *pod) want(within time.Duration, list ...string) {
	p.t.Helper()
	begun := time.Now()
	late := time.After(within)
	for {
		p.mu.Lock()
		changed := p.changed
		var last []string
		if n := len(p.lists); n > 0 {
			last = p.lists[n-1]
		}
		p.mu.Unlock()
		if slices.Equal(last, list) {
			p.t.Logf("%s shows %v after %v", p.name, list, time.Since(begun).Round(time.Millisecond))
			return
		}
		select {
		case <-changed:
		case <-late:
			took := time.Since(begun)
			if more := p.allowed(within) - took; more > 0 {
				late = time.After(more)
				continue
			}
			p.t.Fatalf("%s shows %v after %v, want %v", p.name, last, took, list)
		}
	}
}

// history returns the lists that the pod has shown until now.
func (p *pod) history() [][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lists)
}

// startProcess runs a pod with seven people in a process of its own, and returns what kills it.
func startProcess(t *testing.T, brokers, topic, name string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PRESENCE_TEST_POD="+strings.Join([]string{brokers, topic, name}, " "))
	stdin, err := cmd.StdinPipe() // ends with the test process, however that ends
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		stdin.Close()
		cmd.Wait()
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("the pod's process says %q: %v", line, err)
	}
	return kill
}

func podProcess(spec []string) {
	onChange := func(pods []presence.Pod) { fmt.Println(pods) }
	p := presence.New(cluster(spec[0]), "test-process", spec[1], spec[2], func() int { return 7 }, onChange, slog.New(slog.DiscardHandler))
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // without a goodbye
	}()
	p.Run(context.Background())
}

func cluster(brokers string) *kafka.Cluster {
	return &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
}

// kafkaFor returns a Kafka and the name of a chat's topic that nobody else has.
func kafkaFor(t *testing.T) (brokers, topic string) {
	t.Helper()
	brokers = kafkatest.Broker(t)
	return brokers, topicFor(t, brokers)
}

func topicFor(t *testing.T, brokers string) string {
	topic := "test-presence-" + rand.Text()
	t.Cleanup(func() {
		if err := admin(t, brokers).DeleteTopic(topic + ".pods"); err != nil {
			t.Logf("topic %s.pods stays: %v", topic, err)
		}
	})
	return topic
}

// admin returns a client for topics that ends with the test.
func admin(t *testing.T, brokers string) sarama.ClusterAdmin {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config := cluster(brokers).Config(ctx, "test-admin")
	config.Metadata.Full = true
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		admin.Close()
	})
	return admin
}

func itoa(n int) string { return strconv.Itoa(n) }
