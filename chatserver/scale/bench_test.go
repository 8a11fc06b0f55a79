//go:build scale && linux

package scale

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/kafka"
	"kafkachat/internal/realkafka"
)

// A target is a server to which clients come: a pod, or the limit.
type target struct {
	addr string
	pid  int
}

// A bench is a topic, its pods, and those who use it; or the limit, which has neither.
type bench struct {
	t        *testing.T
	targets  []target
	topic    string
	producer sarama.SyncProducer // of another program, which writes to the topic past all pods
	pods     []*podtest.Pod
	loads    []*process
	runs     int
}

func newBench(t *testing.T, broker *realkafka.Cluster, server string, pods int) *bench {
	t.Helper()
	b := &bench{t: t, topic: "scale-" + rand.Text()}
	for i := range pods {
		p := startPod(t, server, fmt.Sprintf("pod-%d", i), broker.Addrs(), b.topic)
		b.pods = append(b.pods, p)
		b.targets = append(b.targets, target{p.Addr, p.PID()})
	}
	cluster, err := kafka.FromEnv(func(name string) string { return map[string]string{"KAFKA_BROKER": broker.Addrs()}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if b.producer, err = sarama.NewSyncProducer(cluster.Brokers, cluster.Config(t.Context(), "scale")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.producer.Close() })
	return b
}

// all asks all load processes at the same time.
func (b *bench) all(c command) (answers []answer) {
	b.t.Helper()
	answers = make([]answer, len(b.loads))
	errs := make(chan error)
	for i, p := range b.loads {
		go func() {
			mine, err := c, error(nil)
			mine.Source = fmt.Sprintf("127.0.0.%d", 2+i)
			answers[i], err = p.ask(mine)
			errs <- err
		}()
	}
	for range b.loads {
		if err := <-errs; err != nil {
			b.t.Error(err)
		}
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
	return answers
}

// perLoad is how many clients a load process has at most: a process may often have 20,000 descriptors.
const perLoad = 15000

// connect has clients come, as many to each pod.
func (b *bench) connect(clients int) {
	b.t.Helper()
	loads := (clients + perLoad - 1) / perLoad
	if clients%(loads*len(b.targets)) != 0 {
		b.t.Fatalf("%d clients cannot be shared alike by %d load processes and %d pods", clients, loads, len(b.targets))
	}
	for range loads {
		b.loads = append(b.loads, startLoad(b.t))
	}
	c := command{Do: "connect", Clients: clients / loads}
	for _, target := range b.targets {
		c.Addrs = append(c.Addrs, target.addr)
	}
	b.all(c)
}

// A use is what was used while something was measured.
type use struct {
	took          time.Duration
	servers, load time.Duration // CPU
	busy          float64       // share of the machine's cores
}

func (b *bench) measure(do func()) use {
	b.t.Helper()
	used := func() (u use, busy, all float64) {
		for _, target := range b.targets {
			u.servers += cpuTime(b.t, target.pid)
		}
		for _, p := range b.loads {
			u.load += cpuTime(b.t, p.pid)
		}
		busy, all = machineTime(b.t)
		return u, busy, all
	}
	before, busyBefore, allBefore := used()
	begun := time.Now()
	do()
	took := time.Since(begun)
	after, busy, all := used()
	return use{took, after.servers - before.servers, after.load - before.load, (busy - busyBefore) / (all - allBefore)}
}

// A run is messages on their way to all clients.
type run struct {
	use
	Tally
	sent float64 // a second
}

// deliver sends messages, and returns when all clients have them.
func (b *bench) deliver(send func(command) time.Duration, c command) (r run) {
	b.t.Helper()
	b.runs++
	c.Run = b.runs
	c.Do = "begin"
	b.all(c)
	r.use = b.measure(func() {
		r.sent = float64(c.Messages) / send(c).Seconds()
		c.Do = "tally"
		for _, a := range b.all(c) {
			r.Tally.merge(&a.Tally)
		}
	})
	return r
}

// fromClients has the clients of the first load process send.
func (b *bench) fromClients(c command) time.Duration {
	b.t.Helper()
	c.Do = "send"
	a, err := b.loads[0].ask(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Took
}

// fromOutside writes to the topic, so that no pod has the work of publishing.
func (b *bench) fromOutside(c command) time.Duration {
	b.t.Helper()
	took, err := c.pace(func(n int) error {
		_, _, err := b.producer.SendMessage(&sarama.ProducerMessage{
			Topic: b.topic, Partition: 0,
			Value:   sarama.ByteEncoder(appendMessage(nil, c.Run, n, time.Now())),
			Headers: chat.Headers(chat.Message{ID: rand.Text(), Pod: "outside"}),
		})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return took
}

// consume has the pods read messages that nobody is shown.
func (b *bench) consume(c command) use {
	b.t.Helper()
	before := make([]int, len(b.pods))
	for i, p := range b.pods {
		before[i] = records(b.t, p)
	}
	u := b.measure(func() {
		b.fromOutside(c)
		// Asking whether they have read everything would cost the CPU that is measured; so that is done after.
		const enough = 100 * time.Millisecond
		time.Sleep(enough)
	})
	for i, p := range b.pods {
		await(b.t, "a pod has read all messages", func() bool { return records(b.t, p)-before[i] >= c.Messages })
	}
	return u
}

// rss is the memory of all pods, in bytes.
func (b *bench) rss() (sum float64) {
	for _, p := range b.pods {
		sum += rss(b.t, p.PID())
	}
	return sum
}
