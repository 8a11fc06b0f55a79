//go:build faults

package faults

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// patience is how long something may take that has to happen, on a machine that is busy with other tests.
const patience = 60 * time.Second

// A world is one fault's own: a topic, pods, people, and how much they say.
type world struct {
	t      *testing.T
	kafka  *realkafka.Cluster
	server string // the binary of the next pod
	today  string // that of this checkout
	topic  string
	env    []string // of the pods
	length time.Duration
	rng    *rand.Rand // used by the goroutine of the test

	pods   []*pod // all that were ever started
	people []*person
	slow   []*person // those of them with small socket buffers
	begun  time.Time
	ended  time.Time // when the fault ended
	left   time.Time // when the people went

	ctx     context.Context // of the people
	goAway  context.CancelFunc
	present sync.WaitGroup  // of the people
	talking context.Context // ends when nobody says anything more
	hush    context.CancelFunc
	talk    sync.WaitGroup // of those who say something

	mu       sync.Mutex
	services []*pod // those that a new connection may come to; guarded by mu
}

// A pod is one process of the real server, with a proxy between it and Kafka.
type pod struct {
	*podtest.Pod
	proxy *kafkatest.Proxy
	asked bool // to end
}

// A person is a client, and what happened to it.
type person struct {
	*chatclient.Client
	journal journal     // owned by the client while it runs
	away    atomic.Bool // it finds no pod
}

func newWorld(t *testing.T, kafka *realkafka.Cluster, server string, seed uint64, length time.Duration) *world {
	hash := fnv.New64()
	hash.Write([]byte(t.Name()))
	w := &world{
		t: t, kafka: kafka, server: server, today: server, length: length,
		topic: fmt.Sprintf("fault-%x-%d", hash.Sum64(), time.Now().UnixNano()),
		rng:   rand.New(rand.NewPCG(seed, hash.Sum64())),
	}
	w.ctx, w.goAway = context.WithCancel(context.Background())
	w.talking, w.hush = context.WithCancel(w.ctx)
	t.Cleanup(func() {
		w.goAway()
		w.talk.Wait()
		w.present.Wait()
	})
	return w
}

// startPods starts pods and returns when they take clients, who may then come to them.
func (w *world) startPods(n int) {
	w.t.Helper()
	first := len(w.pods)
	for i := range n {
		p := &pod{proxy: kafkatest.NewProxy(w.t, w.kafka.Addrs())}
		name := fmt.Sprint("pod-", first+i)
		p.Pod = podtest.Start(w.t, w.server, filepath.Join(w.t.TempDir(), name+".log"), name,
			append([]string{"TOPIC=" + w.topic, "KAFKA_BROKER=" + p.proxy.Addr()}, w.env...)...)
		w.pods = append(w.pods, p)
	}
	for _, p := range w.pods[first:] {
		p.AwaitReady(w.t)
	}
	w.mu.Lock()
	w.services = append(w.services, w.pods[first:]...)
	w.mu.Unlock()
}

// hide keeps new connections from a pod.
func (w *world) hide(p *pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.services = slices.DeleteFunc(w.services, func(s *pod) bool { return s == p })
}

// stop asks pods to stop, as Kubernetes does, and checks that they do so well.
func (w *world) stop(pods ...*pod) {
	for _, p := range pods {
		w.hide(p)
		p.asked = true
		p.Signal(syscall.SIGTERM)
	}
	for _, p := range pods {
		kill := time.AfterFunc(patience, p.Kill)
		if code := p.ExitCode(); code != 0 {
			w.t.Errorf("pod %s ended with exit code %d; -1 after %s", p.Name, code, patience)
		}
		kill.Stop()
	}
}

// crashed names the pods that have ended though nobody asked them to.
func (w *world) crashed() (wrong string) {
	for _, p := range w.pods {
		if !p.asked && p.Signal(syscall.Signal(0)) != nil {
			wrong += p.Name + " has crashed; "
		}
	}
	return wrong
}

// address is where a client's next attempt goes to: a random pod.
func (w *world) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.services) == 0 {
		return ""
	}
	return "ws://" + w.services[rand.IntN(len(w.services))].Addr + "/ws"
}

// invite has people come, and returns when all are there.
func (w *world) invite(n, readBuffer int) []*person {
	first := len(w.people)
	for i := range n {
		p := &person{journal: journal{name: fmt.Sprint("client ", first+i)}}
		p.Client = chatclient.New(chatclient.Options{
			Address: func() string {
				if p.away.Load() {
					return ""
				}
				return w.address()
			},
			Observe: func(e chatclient.Event) { p.journal.events = append(p.journal.events, e) },
			Name:    p.journal.name, Seed: w.rng.Uint64(), Again: true, ReadBuffer: readBuffer,
		})
		w.present.Go(func() { p.Run(w.ctx) })
		w.people = append(w.people, p)
	}
	w.await("have come", func(p *person) bool { return p.Status().Live })
	return w.people[first:]
}

// talkAll has everybody say so many messages in a second, together, until hush. It returns when
// everybody has been shown one. A few people wait for their last message to appear before they say
// more, so that what they say after a fault does not wait behind what they said during it. The others
// wait when ten of theirs have not appeared, so that a slow machine is not flooded. One says what is
// rejected now and then.
func (w *world) talkAll(perSecond, filler int) {
	const wordy, mostPending = 1, 10
	w.begun = time.Now()
	pause := time.Second * time.Duration(len(w.people)) / time.Duration(perSecond)
	for i, p := range w.people {
		most := mostPending
		if i%10 == 0 {
			most = 1
		}
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
		w.talk.Go(func() {
			sleep(w.talking, between(rng, 0, pause))
			for n := 1; w.talking.Err() == nil; n++ {
				text := fmt.Sprintf("%s says %d%s", p.journal.name, n, strings.Repeat(" and so on", filler/10))
				if i == wordy && n%20 == 0 {
					text = strings.Repeat("too long ", chat.MaxText/8)
				}
				if p.Status().Pending < most {
					p.Say(text)
				}
				sleep(w.talking, between(rng, pause/2, 3*pause/2))
			}
		})
	}
	w.await("have been shown a message", func(p *person) bool { return p.Status().LastID != "" })
}

// finish ends the talk, waits until everybody has everything, and has them go.
func (w *world) finish() {
	w.hush()
	w.talk.Wait()
	begun := time.Now()
	w.await("have an empty outbox", func(p *person) bool { return p.Status().Pending == 0 })
	// What follows everything that was said has been seen by everybody who has seen everything.
	conductor := w.people[len(w.people)-1]
	conductor.Say("that was all")
	w.await("have the last message", func(p *person) bool {
		return conductor.Status().Pending == 0 && p.Status().Pending == 0 && p.Status().LastID == conductor.Status().LastID
	})
	w.t.Logf("everybody had everything after %.1f s", time.Since(begun).Seconds())
	w.left = time.Now()
	w.goAway()
	w.present.Wait()
}

// await waits until it is so for everybody, or logs that it is not: what that means, the verdict finds out.
func (w *world) await(what string, isSo func(*person) bool) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		lacking := slices.IndexFunc(w.people, func(p *person) bool { return !isSo(p) })
		if lacking < 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Logf("not all %s after %s: not %s", what, patience, w.people[lacking].journal.name)
			return
		}
	}
}

// evidence reads the whole topic, past all proxies.
func (w *world) evidence() evidence {
	e := evidence{ended: w.ended}
	for _, p := range w.people {
		e.journals = append(e.journals, p.journal)
	}
	client := w.connect()
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		w.t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(w.topic, 0, sarama.OffsetOldest)
	if err != nil {
		w.t.Fatalf("reading the topic: %v", err)
	}
	defer partition.Close()
	for end, next := w.end(client), int64(0); next < end; {
		select {
		case r := <-partition.Messages():
			e.log = append(e.log, logged{r.Offset, chat.Decode(r).ID})
			next = r.Offset + 1
		case <-time.After(patience):
			w.t.Fatalf("the topic has %d records, of which only %d come", end, len(e.log))
		}
	}
	return e
}

// connect connects to Kafka past all proxies.
func (w *world) connect() sarama.Client {
	w.t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(strings.Split(w.kafka.Addrs(), ","), config)
	if err != nil {
		w.t.Fatalf("connecting to Kafka: %v", err)
	}
	return client
}

// end asks where the topic ends.
func (w *world) end(client sarama.Client) int64 {
	w.t.Helper()
	end, err := client.GetOffset(w.topic, 0, sarama.OffsetNewest)
	if err != nil {
		w.t.Fatalf("asking where the topic ends: %v", err)
	}
	return end
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
