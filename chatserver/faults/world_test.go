//go:build faults

package faults

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/internal/realkafka"
)

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

	stalls stalls

	mu       sync.Mutex // guards the following
	dice     *rand.Rand
	services []*pod // those that a new connection may come to
}

// A person is a client, and what happened to it.
type person struct {
	*chatclient.Client
	journal journal     // owned by the client while it runs
	away    atomic.Bool // it finds no pod
}

// lastWords is the message after which nobody says anything.
const lastWords = "that was all"

func newWorld(t *testing.T, kafka *realkafka.Cluster, server string, seed uint64, length time.Duration) *world {
	hash := fnv.New64()
	hash.Write([]byte(t.Name()))
	stream := hash.Sum64()
	w := &world{
		t: t, kafka: kafka, server: server, today: server, length: length,
		topic: fmt.Sprintf("fault-%x-%d", stream, time.Now().UnixNano()),
		rng:   rand.New(rand.NewPCG(seed, stream)),
		dice:  rand.New(rand.NewPCG(seed, stream+1)),
	}
	w.ctx, w.goAway = context.WithCancel(context.Background())
	w.talking, w.hush = context.WithCancel(w.ctx)
	t.Cleanup(func() {
		w.hush()
		w.goAway()
		w.talk.Wait()
		w.present.Wait()
	})
	return w
}

// startPods starts pods and returns when they take clients, who may then come to them.
func (w *world) startPods(n int) []*pod {
	w.t.Helper()
	var pods []*pod
	for range n {
		p := startPod(w.t, w.server, fmt.Sprintf("pod-%d", len(w.pods)), w.kafka.Addrs(), w.topic, w.env...)
		w.pods = append(w.pods, p)
		pods = append(pods, p)
	}
	for _, p := range pods {
		p.AwaitReady(w.t)
	}
	w.mu.Lock()
	w.services = append(w.services, pods...)
	w.mu.Unlock()
	return pods
}

// crashed names the pods that have ended though nobody asked them to.
func (w *world) crashed() (wrong string) {
	for _, p := range w.pods {
		select {
		case <-p.Ended():
			if !p.asked {
				wrong += p.Name + " has crashed; "
			}
		default:
		}
	}
	return wrong
}

// hide keeps new connections from a pod.
func (w *world) hide(p *pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.services = slices.DeleteFunc(w.services, func(s *pod) bool { return s == p })
}

// address is where a client's next attempt goes to: a random pod.
func (w *world) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.services) == 0 {
		return ""
	}
	return "ws://" + w.services[w.dice.IntN(len(w.services))].Addr + "/ws"
}

// arrival is how long people may take to come, on a machine that is busy with other tests.
const arrival = 60 * time.Second

// invite has people come, and returns when all are there.
func (w *world) invite(n int, readBuffer int) []*person {
	w.t.Helper()
	var guests []*person
	for range n {
		p := &person{}
		p.journal.name = fmt.Sprintf("client %d", len(w.people))
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
		guests = append(guests, p)
	}
	w.await(arrival, "clients have come", func() int { return count(guests, func(p *person) bool { return !p.Status().Live }) })
	return guests
}

// talkAll has some people say so many messages in a second, together, until hush. A few of them
// wait for their last message to appear before they say more, so that what they say after a
// fault does not wait behind what they said during it. One says what is rejected now and then.
func (w *world) talkAll(people []*person, perSecond int, filler int) {
	const wordy = 1
	w.begun = time.Now()
	pause := time.Second * time.Duration(len(people)) / time.Duration(perSecond)
	for i, p := range people {
		patient := i%10 == 0
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
		w.talk.Go(func() {
			sleep(w.talking, time.Duration(rng.Int64N(int64(pause))))
			for n := 1; w.talking.Err() == nil; n++ {
				text := fmt.Sprintf("%s says %d%s", p.journal.name, n, strings.Repeat(" and so on", filler/10))
				if i == wordy && n%20 == 0 {
					text = strings.Repeat("too long ", chat.MaxText/8)
				}
				if !patient || p.Status().Pending == 0 {
					p.Say(text)
				}
				sleep(w.talking, pause/2+time.Duration(rng.Int64N(int64(pause))))
			}
		})
	}
}

// finish ends the talk, waits until everybody has everything, and has them go.
func (w *world) finish() {
	const patience = 25 * time.Second
	w.hush()
	w.talk.Wait()
	begun := time.Now()
	w.await(patience, "outboxes are empty", func() int { return count(w.people, func(p *person) bool { return p.Status().Pending > 0 }) })
	// What follows everything that was said has been seen by everybody who has seen everything.
	conductor := w.people[len(w.people)-1]
	conductor.Say(lastWords)
	w.await(patience, "the last message is there", func() int {
		last := conductor.Status().LastID
		return count(w.people, func(p *person) bool { s := p.Status(); return s.Pending > 0 || s.LastID != last || last == "" })
	})
	w.t.Logf("everybody had everything after %.1f s", time.Since(begun).Seconds())
	w.left = time.Now()
	w.goAway()
	w.present.Wait()
}

// goneHome says whether something happened because the people went when all was over.
func (w *world) goneHome(at time.Time) bool { return !at.Before(w.left) }

// await waits until lacking is 0, or says so: what it means, the verdict finds out.
func (w *world) await(patience time.Duration, what string, lacking func() int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		n := lacking()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Logf("not so after %s for %d: %s", patience, n, what)
			return
		}
	}
}

func (w *world) evidence() evidence {
	e := evidence{log: w.readTopic(), ended: w.ended}
	for _, p := range w.people {
		e.journals = append(e.journals, p.journal)
	}
	return e
}

// readTopic reads the whole topic, past all proxies.
func (w *world) readTopic() (log []logged) {
	client := w.connect()
	defer client.Close()
	end, err := client.GetOffset(w.topic, 0, sarama.OffsetNewest)
	if err != nil {
		w.t.Fatalf("asking where the topic ends: %v", err)
	}
	if end == 0 {
		return nil
	}
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
	for {
		select {
		case r := <-partition.Messages():
			log = append(log, logged{r.Offset, chat.Decode(r).ID})
			if r.Offset+1 >= end {
				return log
			}
		case <-time.After(30 * time.Second):
			w.t.Fatalf("the topic has %d records, of which only %d come", end, len(log))
		}
	}
}
