//go:build faults

package faults

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
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

func TestMain(m *testing.M) {
	flag.Uint64("faults.seed", uint64(rand.Uint32()), "of all randomness")
	flag.Duration("faults.load", 8*time.Second, "how long there is load for each fault")
	flag.Int("faults.runs", 1, "how often each fault happens")
	os.Exit(m.Run())
}

func option[T any](name string) T { return flag.Lookup("faults." + name).Value.(flag.Getter).Get().(T) }

func TestFaults(t *testing.T) {
	seed, runs, server := option[uint64]("seed"), option[int]("runs"), podtest.Build(t)
	var table table
	t.Cleanup(func() { fmt.Printf("\n%s\nseed %d\n\n", &table, seed) })
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprintf("brokers=%d", brokers), func(group *testing.T) {
			var kafka *realkafka.Cluster
			for _, row := range rows() {
				if cmp.Or(row.brokers, 1) != brokers {
					continue
				}
				for run := range runs {
					group.Run(row.name, func(t *testing.T) {
						if kafka == nil {
							kafka = realkafka.Start(group, realkafka.Options{Brokers: brokers})
						}
						table.add(row.name, row.happen(newWorld(t, kafka, server, seed+uint64(run))))
					})
				}
			}
		})
	}
}

// A row is one fault, as the table has it.
type row struct {
	name    string
	brokers int // 0: one
	pods    int // at the beginning; 0: three
	people  int // 0: fullPeople
	slow    int // of them, with small socket buffers
	rate    int // messages in a second, of all; 0: 500
	filler  int // bytes added to each message
	env     []string
	edition string // commit of the pods at the beginning; "": today's

	fault   func(w *world)                // happens while there is load, and returns when it has ended
	network proxyFault                    // instead of fault: of all pods' proxies, for up to 15 s
	check   func(w *world) (wrong string) // at the end; may be nil

	remade, anyCopies bool // as in evidence
	gaps              int  // people who may be told of gaps
}

const fullPeople = 54

// rows are all faults, in the order of the table.
func rows() (all []row) {
	for _, rowsOf := range []func(stored bool) []row{podRows, brokerRows, networkRows} {
		before, after := rowsOf(false), rowsOf(true)
		for i := range before {
			before[i].name += ", before messages are stored"
			after[i].name += ", after messages are stored, before the answer"
			all = append(all, before[i], after[i])
		}
	}
	return slices.Concat(all, steadyRows(), readerRows(), clientRows(), topicRows())
}

// happen brings the fault about under load, and judges what the people saw.
func (r row) happen(w *world) *verdict {
	w.env = r.env
	if r.edition != "" {
		source := w.t.TempDir()
		script := `git -C "$(git rev-parse --show-toplevel)" archive "$0" | tar -x -C "$1"`
		if out, err := exec.Command("sh", "-c", script, r.edition, source).CombinedOutput(); err != nil {
			w.t.Fatalf("unpacking %s: %v\n%s", r.edition, err, out)
		}
		w.server = podtest.BuildIn(w.t, source)
	}
	w.startPods(cmp.Or(r.pods, 3))
	w.invite(cmp.Or(r.people, fullPeople)-r.slow, 0)
	w.invite(r.slow, 64<<10)
	w.slow = w.people[len(w.people)-r.slow:]
	begun := time.Now()
	w.talkAll(cmp.Or(r.rate, 500), r.filler)
	lead := w.length / 5 // before the fault, and at least after it
	sleep(w.ctx, lead)
	if r.network != nil {
		w.disturb(w.pods, r.network)
		w.stay(15 * time.Second)
		heal(w.pods)
	} else {
		r.fault(w)
	}
	if w.ended.IsZero() {
		w.ended = time.Now()
	}
	sleep(w.ctx, max(time.Until(begun.Add(w.length)), lead))
	w.finish()

	e := w.evidence()
	e.remade, e.anyCopies = r.remade, r.anyCopies
	v := judge(e)
	w.t.Logf("the fault ended at %s\n%s", w.ended.UTC().Format("15:04:05.000"), &table{{r.name, 1, v}})
	wrong := v.wrong()
	for _, p := range w.pods {
		if !p.asked && p.Signal(syscall.Signal(0)) != nil {
			wrong += p.Name + " has crashed; "
		}
	}
	unaware := func(p *person) bool { return !slices.ContainsFunc(p.journal.events, tellsGap) }
	if told := slices.DeleteFunc(slices.Clone(w.people), unaware); len(told) > r.gaps {
		wrong += fmt.Sprintf("%d were told of a gap, such as %s; ", len(told), told[0].journal.name)
	}
	if v.n[resets] > 0 && !r.remade {
		wrong += "resets were told where there are none; "
	}
	if r.check != nil {
		wrong += r.check(w)
	}
	if wrong == "" {
		return v
	}
	w.t.Errorf("%s\n%s", wrong, strings.Join(v.complaints, "\n"))
	for _, p := range w.pods {
		log := p.Log()
		w.t.Logf("the end of the log of %s:\n%s", p.Name, log[max(0, len(log)-8000):])
	}
	return v
}

const patience = 60 * time.Second // for what has to happen, on a machine that is busy with other tests

// A world is one fault's own: a topic, pods, people, and how much they say.
type world struct {
	t      *testing.T
	kafka  *realkafka.Cluster
	client sarama.Client // of kafka, past all proxies
	server string        // the binary of the next pod
	today  string        // that of this checkout
	topic  string
	env    []string      // of the pods
	length time.Duration // of the load
	rng    *rand.Rand    // used by the goroutine of the test

	pods   []*pod // all that were ever started
	people []*person
	slow   []*person // those of them with small socket buffers
	ended  time.Time // when the fault ended

	ctx     context.Context // of the people
	present sync.WaitGroup  // of the people
	goAway  func()          // ends ctx, and waits for the people
	hush    func()          // ends the talk

	mu       sync.Mutex
	services []*pod // those that a new connection may come to; guarded by mu
}

type pod struct {
	*podtest.Pod
	proxy *kafkatest.Proxy
	asked bool          // to end
	took  time.Duration // from stop's signal to the pod's end
}

type person struct {
	*chatclient.Client
	journal journal     // owned by the client while it runs
	away    atomic.Bool // it finds no pod
}

func newWorld(t *testing.T, kafka *realkafka.Cluster, server string, seed uint64) *world {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.MaxProcessingTime = patience // a consumer whose caller was slower than that may get nothing more
	client, err := sarama.NewClient(strings.Split(kafka.Addrs(), ","), config)
	if err != nil {
		t.Fatalf("connecting to Kafka: %v", err)
	}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{
		t: t, kafka: kafka, client: client, server: server, today: server, ctx: ctx, hush: func() {},
		topic: fmt.Sprint("fault-", time.Now().UnixNano()), length: option[time.Duration]("load"), rng: rand.New(rand.NewPCG(seed, 1)),
	}
	w.goAway = func() {
		cancel()
		w.hush()
		w.present.Wait()
	}
	t.Cleanup(w.goAway)
	return w
}

// startPods starts pods and returns when they take clients, who may then come to them.
func (w *world) startPods(n int) {
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

func (w *world) hide(p *pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.services = slices.DeleteFunc(w.services, func(s *pod) bool { return s == p })
}

// stop asks pods to stop, as Kubernetes does, and checks that they do so well.
func (w *world) stop(pods ...*pod) {
	begun := time.Now()
	for _, p := range pods {
		w.hide(p)
		p.asked = true
		p.Signal(syscall.SIGTERM)
		time.AfterFunc(patience, p.Kill)
	}
	for _, p := range pods {
		code := p.ExitCode()
		p.took = time.Since(begun)
		if code != 0 {
			w.t.Errorf("pod %s ended with exit code %d; -1 after %s", p.Name, code, patience)
		}
	}
}

// invite has people come, and returns when all are there.
func (w *world) invite(n, readBuffer int) {
	for range n {
		p := &person{journal: journal{name: fmt.Sprint("client ", len(w.people))}}
		p.Client = chatclient.New(chatclient.Options{
			Address: func() string { // of a random pod
				w.mu.Lock()
				defer w.mu.Unlock()
				if len(w.services) == 0 || p.away.Load() {
					return ""
				}
				return "ws://" + w.services[rand.IntN(len(w.services))].Addr + "/ws"
			},
			Observe: func(e chatclient.Event) { p.journal.events = append(p.journal.events, e) },
			Name:    p.journal.name, Seed: w.rng.Uint64(), Again: true, ReadBuffer: readBuffer,
		})
		w.present.Go(func() { p.Run(w.ctx) })
		w.people = append(w.people, p)
	}
	w.await("have come", func(p *person) bool { return p.Status().Live })
}

// talkAll has all people together say so many messages in a second, until hush. It returns when
// everybody has been shown one.
func (w *world) talkAll(perSecond, filler int) {
	talking, stop := context.WithCancel(w.ctx)
	var all sync.WaitGroup
	w.hush = func() {
		stop()
		all.Wait()
	}
	pause := time.Second * time.Duration(len(w.people)) / time.Duration(perSecond)
	for i, p := range w.people {
		mostPending := 10 // a slow machine is not flooded
		if i%10 == 0 {
			mostPending = 1 // what is said after a fault does not wait behind what was said during it
		}
		dice := w.dice()
		all.Go(func() {
			sleep(talking, between(dice, 0, pause))
			for n := 1; talking.Err() == nil; n++ {
				text := fmt.Sprintf("%s says %d%s", p.journal.name, n, strings.Repeat(" and so on", filler/10))
				if i == 1 && n%20 == 0 {
					text = strings.Repeat("too long ", chat.MaxText/8) // is rejected
				}
				if p.Status().Pending < mostPending {
					p.Say(text)
				}
				sleep(talking, between(dice, pause/2, 3*pause/2))
			}
		})
	}
	w.await("have been shown a message", func(p *person) bool { return p.Status().LastID != "" })
}

// finish ends the talk, waits until everybody has everything, and has them go.
func (w *world) finish() {
	w.hush()
	w.await("have an empty outbox", func(p *person) bool { return p.Status().Pending == 0 })
	conductor := w.people[len(w.people)-1]
	conductor.Say("that was all") // who has seen this has seen everything
	w.await("have the last message", func(p *person) bool {
		return conductor.Status().Pending == 0 && p.Status().Pending == 0 && p.Status().LastID == conductor.Status().LastID
	})
	w.goAway()
}

// await waits until it is so for everybody, or logs that it is not. The verdict finds out what that means.
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
	consumer, err := sarama.NewConsumerFromClient(w.client)
	if err != nil {
		w.t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(w.topic, 0, sarama.OffsetOldest)
	if err != nil {
		w.t.Fatalf("reading the topic: %v", err)
	}
	defer partition.Close()
	for next := int64(-1); next < partition.HighWaterMarkOffset(); { // which the first answer tells
		select {
		case r := <-partition.Messages():
			e.log = append(e.log, logged{r.Offset, chat.Decode(r).ID})
			next = r.Offset + 1
		case <-time.After(patience):
			w.t.Fatalf("the topic ends at %d, and only %d records come", partition.HighWaterMarkOffset(), len(e.log))
		}
	}
	return e
}

// stay lets a fault last as long as it is wished, if there is time.
func (w *world) stay(full time.Duration) { sleep(w.ctx, min(full, w.length/2)) }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// dice are randomness for one goroutine.
func (w *world) dice() *rand.Rand { return rand.New(rand.NewPCG(w.rng.Uint64(), 2)) }

func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(dice.Int64N(int64(most-least)))
}
