//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/chatclient"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// podRows, like brokerRows and networkRows, are faults that hit messages on their way.
func podRows(stored bool) []row {
	return []row{
		{name: "a pod is killed (-9)", anyCopies: true, fault: func(w *world) {
			p, others := w.pods[0], w.pods[1:]
			if stored {
				// The others have not read what it has stored when its clients come to them.
				w.disturb(others, late(time.Second/2, time.Second))
			}
			w.hold(stored, p)
			p.asked = true
			p.Kill()
			w.ended = time.Now()
			w.stay(2 * time.Second)
			heal(others)
			w.hide(p) // until now new clients were sent to it, too
			w.startPods(1)
		}},
		{name: "a pod is stopped (SIGTERM)", fault: func(w *world) {
			w.hold(stored, w.pods[0])
			w.stop(w.pods[0])
		}},
		{name: "a pod is frozen (SIGSTOP)", fault: func(w *world) {
			p := w.pods[0]
			w.hold(stored, p)
			err := p.Pause()
			release(p)
			w.hide(p)
			w.stay(10 * time.Second)
			if err := errors.Join(err, p.Resume()); err != nil {
				w.t.Error(err)
			}
		}},
	}
}

// steadyRows are faults of pods that come and go.
func steadyRows() []row {
	all := []row{
		{name: "rolling restart of all pods", fault: (*world).replaceAll},
		{name: "scale 2 → 4 → 1", pods: 2, fault: func(w *world) {
			w.startPods(2)
			for _, p := range w.people {
				if w.rng.IntN(2) == 0 {
					p.Hop() // some come to the new pods
				}
			}
			w.stay(3 * time.Second)
			w.stop(w.pods[:3]...)
		}},
		{name: "rolling restart of 4 pods with 2,000 clients", pods: 4, people: 2000, rate: 5,
			fault: (*world).replaceAll, check: (*world).checkDrains},
	}
	const firstEdition = "775e689" // its last commit, which not all clones have
	if exec.Command("git", "cat-file", "-e", firstEdition+"^{commit}").Run() != nil {
		return all
	}
	return append(all, row{name: "rolling update from the first edition, and back", edition: firstEdition, fault: func(w *world) {
		first := w.server
		w.server = w.today
		w.startPods(1)
		for _, p := range w.pods {
			w.awaitPods(p)
		}
		w.replaceAll()
		w.server = first
		w.replaceAll()
	}})
}

// checkDrains checks that nobody had to move more often than pods were replaced, and that each pod
// took its time to send its clients away. A process that stands still makes that time only longer.
func (w *world) checkDrains() (wrong string) {
	const perClient = 4 * time.Millisecond // a pod takes 5 ms
	replaced, left := w.pods[:len(w.pods)/2], make(map[string]int)
	for _, p := range w.people {
		at, moves := "", -1
		for _, e := range p.journal.events {
			switch {
			case e.Kind == chatclient.Welcomed:
				at = e.Pod
				moves++
			case at != "" && (e.Kind == chatclient.SentAway || e.Kind == chatclient.Left):
				left[at]++
				at = ""
			}
		}
		if moves > len(replaced) {
			wrong += fmt.Sprintf("%s had to move %d times, and %d pods were replaced; ", p.journal.name, moves, len(replaced))
		}
	}
	for _, p := range replaced {
		if n := left[p.Name]; p.took < time.Duration(n)*perClient {
			wrong += fmt.Sprintf("%s sent %d clients away within %s; ", p.Name, n, p.took)
		}
	}
	return wrong
}

func brokerRows(stored bool) []row {
	type act = func(kafka *realkafka.Cluster, node int)
	outage := func(begin act, length time.Duration, end act) func(*world) {
		return func(w *world) {
			w.hold(stored, w.pods...)
			begin(w.kafka, 0)
			release(w.pods...)
			w.stay(length)
			end(w.kafka, 0)
		}
	}
	return []row{
		{name: "the broker is killed (-9) and started again", fault: outage((*realkafka.Cluster).Kill, 3*time.Second, (*realkafka.Cluster).Start)},
		{name: "the broker is frozen (SIGSTOP)", fault: outage((*realkafka.Cluster).Pause, 15*time.Second, (*realkafka.Cluster).Resume)},
		{name: "Kafka's data is wiped", remade: true, fault: outage((*realkafka.Cluster).Wipe, time.Second, (*realkafka.Cluster).Start)},
		{name: "the leader of three brokers is killed (-9)", brokers: 3, anyCopies: true, fault: func(w *world) {
			leader := w.leader(-1)
			w.hold(stored, w.pods...)
			w.kafka.Kill(leader)
			release(w.pods...)
			w.comesBack(leader)
		}},
	}
}

func topicRows() []row {
	return []row{
		{name: "Kafka's data is wiped, and has more records than before when pods and some clients come back", remade: true, fault: func(w *world) {
			// A pod and a client can tell this topic from the old one only by what stands in it.
			away := w.people[:len(w.people)/5]
			for _, p := range away {
				p.away.Store(true)
				p.Cut()
			}
			lines := w.moreLines()
			w.kafka.Wipe(0)
			for _, p := range w.pods {
				p.proxy.Refuse(true)
				p.proxy.Cut()
			}
			w.kafka.Start(0)
			kafkatest.Recreate(w.t, w.kafka.Addrs(), w.topic, lines...)
			for _, p := range w.pods {
				p.proxy.Refuse(false)
			}
			w.ended = time.Now()
			w.stay(time.Second)
			for _, p := range away {
				p.away.Store(false)
				p.Hop() // as the page does when the network is back
			}
		}},
		{name: "the topic is deleted and made again with more records than before", remade: true, fault: func(w *world) {
			w.disturb(w.pods, func(_ *rand.Rand, r request) action { return action{CutBefore: r.Key == kmsg.CreateTopics} }) // pods would make it, too
			kafkatest.Recreate(w.t, w.kafka.Addrs(), w.topic, w.moreLines()...)
			heal(w.pods)
		}},
		{name: "the leader of three brokers is killed (-9), after it stored messages, before the others have copied them", brokers: 3, anyCopies: true,
			fault: func(w *world) {
				leader := w.leader(-1)
				second, third := (leader+1)%3, (leader+2)%3
				w.kafka.Pause(second)
				w.kafka.Pause(third)
				sleep(w.ctx, gathering)
				w.kafka.Kill(leader)
				w.kafka.Resume(second)
				w.kafka.Resume(third)
				w.comesBack(leader)
			}},
	}
}

func networkRows(stored bool) []row {
	direction, cut := kafkatest.Requests, action{CutBefore: true}
	if stored {
		direction, cut = kafkatest.Answers, action{CutAfter: true}
	}
	seed := option[uint64]("seed")
	sometimes := func(dice *rand.Rand, r request, probability float64) bool {
		keys := []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata}
		return slices.Contains(keys, r.Key) && dice.Float64() < probability
	}
	return []row{
		{name: "two of three pods get nothing through", fault: func(w *world) {
			for _, p := range w.pods[:2] {
				p.proxy.Pause(direction)
			}
			w.stay(10 * time.Second)
			for _, p := range w.pods[:2] {
				p.proxy.Resume()
			}
		}},
		{name: "one request in ten resets its connection", network: func(dice *rand.Rand, r request) (a action) {
			if sometimes(dice, r, 0.1) {
				a = cut
			}
			return a
		}},
		{name: "half of the requests are delayed by up to 0.5 s", network: func(dice *rand.Rand, r request) (a action) {
			switch delay := between(dice, 0, time.Second/2); {
			case !sometimes(dice, r, 0.5):
			case stored:
				a.DelayAnswer = delay
			default:
				a.Delay = delay
			}
			return a
		}},
		{name: "each connection is cut after 1–25 requests", network: func(_ *rand.Rand, r request) (a action) {
			if r.N > rand.New(rand.NewPCG(seed, uint64(r.Conn))).IntN(25) {
				a = cut
			}
			return a
		}},
		{name: "a pod is cut off for longer than the dedupe window", fault: func(w *world) {
			p := w.pods[0]
			w.hold(stored, p)
			p.proxy.Refuse(true)
			release(p)
			w.flood(chat.WindowSize + 1000)
			for _, person := range w.people {
				if w.rng.IntN(3) > 0 { // some of them to the pod that knows nothing of all this
					person.Hop()
				}
			}
			w.stay(time.Second)
			p.proxy.Refuse(false)
		}},
	}
}

// readerRows are faults of what pods read from Kafka.
func readerRows() []row {
	return []row{
		{name: "brokers say that they lead nothing, one request in five", network: func(dice *rand.Rand, r request) action {
			return action{NotLeader: (r.Key == kmsg.Produce || r.Key == kmsg.Fetch) && dice.IntN(5) == 0}
		}},
		{name: "one of three pods reads 0–2 s late, while clients hop between pods", fault: func(w *world) {
			w.disturb(w.pods[:1], late(0, 2*time.Second))
			w.eachNowAndThen((*person).Hop)
			heal(w.pods)
		}},
		{name: "two of three pods read nothing for 8 s, but can write", fault: func(w *world) {
			const length = 8 * time.Second
			w.disturb(w.pods[:2], late(length, length+1))
			sleep(w.ctx, length)
			heal(w.pods)
		}},
		{name: "one fetch of each pod is never answered", fault: func(w *world) {
			for _, p := range w.pods {
				conn := -1
				p.proxy.SetFault(func(r request) (a action) {
					if isConsumer(r) && conn < 0 {
						conn = r.Conn
					}
					if r.Conn == conn {
						a.DelayAnswer = time.Hour
					}
					return a
				})
			}
			sleep(w.ctx, gathering) // what was under way arrives; then nothing does
		}},
		{name: "one answer in three to a write is lost, while all pods read 0.5–1 s late", network: func(dice *rand.Rand, r request) (a action) {
			switch r.Key {
			case kmsg.Produce:
				a.CutAfter = dice.IntN(3) == 0
			case kmsg.Fetch:
				a.DelayAnswer = between(dice, time.Second/2, time.Second)
			}
			return a
		}},
	}
}

func clientRows() []row {
	const tenth, long = fullPeople / 10, 1500 // long messages fill the sockets
	stopReading := func(w *world, length time.Duration) {
		for _, p := range w.slow {
			p.Read(false)
		}
		sleep(w.ctx, length)
		for _, p := range w.slow {
			p.Read(true)
		}
	}
	return []row{
		{name: "each client is cut every 1–3 s", fault: func(w *world) { w.eachNowAndThen((*person).Cut) }},
		// What they miss fits into the log of the first row's pods, and not into that of the second's. The second log holds what
		// is said in 2.5 s. A client or a pod that stands still for longer brings gaps too: to that client, or to all of the pod's.
		{name: "a tenth of the clients stop reading", slow: tenth, filler: long, env: []string{"LOG_BYTES=67108864"},
			fault: func(w *world) { stopReading(w, min(15*time.Second, w.length/2)) }},
		{name: "a tenth of the clients stop reading, and the pods remember little", slow: tenth, filler: long, env: []string{"LOG_BYTES=2097152"},
			fault: func(w *world) { stopReading(w, 6*time.Second) }, gaps: fullPeople / 2},
	}
}

type request = kafkatest.Request
type action = kafkatest.Action

// A proxyFault is a fault of a proxy, which has dice of its own.
type proxyFault func(dice *rand.Rand, r request) action

func (w *world) disturb(pods []*pod, fault proxyFault) {
	for _, p := range pods {
		dice := w.dice()
		p.proxy.SetFault(func(r request) action { return fault(dice, r) })
	}
}

func heal(pods []*pod) {
	for _, p := range pods {
		p.proxy.SetFault(nil)
	}
}

// late has a pod read the topic late: each answer to a fetch takes between least and most.
func late(least, most time.Duration) proxyFault {
	return func(dice *rand.Rand, r request) (a action) {
		if isConsumer(r) {
			a.DelayAnswer = between(dice, least, most)
		}
		return a
	}
}

func isConsumer(r request) bool {
	return r.Key == kmsg.Fetch && strings.Contains(r.Client, "consumer")
}

// gathering is how long messages are held so that a fault hits many of them.
const gathering = 300 * time.Millisecond

// hold keeps the messages of some pods on their way, until their connections end: before the broker
// has stored them, or after that, before the pod has got the answer.
func (w *world) hold(stored bool, pods ...*pod) {
	w.disturb(pods, func(_ *rand.Rand, r request) (a action) {
		switch {
		case !stored && r.Key == kmsg.Produce:
			a.Delay = time.Hour
		case stored && (r.Key == kmsg.Produce || isConsumer(r)):
			a.DelayAnswer = time.Hour // what the pod read back would be an answer, too
		}
		return a
	})
	sleep(w.ctx, gathering)
}

// release ends what hold began, and all connections with it.
func release(pods ...*pod) {
	heal(pods)
	for _, p := range pods {
		p.proxy.Cut()
	}
}

// eachNowAndThen does something to each person every 1-3 s.
func (w *world) eachNowAndThen(do func(*person)) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for _, p := range w.people {
		dice := w.dice()
		pause := func() { sleep(ctx, between(dice, time.Second, 3*time.Second)) }
		w.present.Go(func() {
			for pause(); ctx.Err() == nil; pause() {
				do(p)
			}
		})
	}
	w.stay(time.Hour)
}

// comesBack ends the fault when another leader has been elected; the killed one comes back later.
func (w *world) comesBack(leader int) {
	w.leader(leader)
	w.ended = time.Now()
	w.stay(3 * time.Second)
	w.kafka.Start(leader)
}

// leader asks who leads the topic's partition, until it is another one than this.
func (w *world) leader(not int) int {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); sleep(w.ctx, 20*time.Millisecond) {
		w.client.RefreshMetadata(w.topic) // while the refresh fails, Leader answers the old one
		if leader, err := w.client.Leader(w.topic, 0); err == nil && int(leader.ID()) != not {
			return int(leader.ID())
		}
	}
	w.t.Fatal("nobody leads the topic")
	return 0
}

// moreLines are what another program writes to the topic: more records than it has.
func (w *world) moreLines() []string {
	end, err := w.client.GetOffset(w.topic, 0, sarama.OffsetNewest)
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.Repeat([]string{"a line"}, int(end)+500)
}

// flood appends n records that pods show once, since they are copies of one another.
func (w *world) flood(n int) {
	headers := chat.Headers(chat.Message{ID: strings.Repeat("flood", 5)})
	records := make([]*sarama.ProducerMessage, n)
	for i := range records {
		records[i] = &sarama.ProducerMessage{Value: sarama.StringEncoder("x"), Headers: headers}
	}
	for batch := range slices.Chunk(records, 1000) { // Kafka takes no batch of more than 1 MiB
		kafkatest.ProduceRecords(w.t, w.kafka.Addrs(), w.topic, batch...)
	}
}

// replaceAll replaces pod after pod, as a deployment does: the new one is ready first.
func (w *world) replaceAll() {
	for _, p := range slices.Clone(w.services) { // this goroutine alone changes them
		w.startPods(1)
		w.stop(p)
	}
}

// awaitPods waits until the pod tells its clients of all pods.
func (w *world) awaitPods(p *pod) {
	dialer := websocket.Dialer{Subprotocols: []string{chat.Protocol}}
	ws, _, err := dialer.Dial("ws://"+p.Addr+"/ws", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(patience))
	for toldOfAll := false; !toldOfAll; {
		_, event, err := ws.ReadMessage()
		if err != nil {
			w.t.Fatalf("pod %s did not tell of all %d pods: %v", p.Name, len(w.pods), err)
		}
		lacks := func(p *pod) bool { return !strings.Contains(string(event), `"pod":"`+p.Name+`"`) }
		toldOfAll = !slices.ContainsFunc(w.pods, lacks)
	}
}
