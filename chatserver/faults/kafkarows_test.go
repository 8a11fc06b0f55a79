//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// brokerRows are faults of brokers that hit messages on their way.
func brokerRows(where way) []row {
	type act = func(kafka *realkafka.Cluster, node int)
	outage := func(begin act, length time.Duration, end act) func(*world) {
		return func(w *world) {
			w.hold(where, w.pods...)
			begin(w.kafka, 0)
			release(w.pods...)
			sleep(w.ctx, w.during(length))
			end(w.kafka, 0)
		}
	}
	return []row{
		{name: "the broker is killed (-9) and started again", fault: outage((*realkafka.Cluster).Kill, 3*time.Second, (*realkafka.Cluster).Start)},
		{name: "the broker is frozen (SIGSTOP)", fault: outage((*realkafka.Cluster).Pause, 15*time.Second, (*realkafka.Cluster).Resume)},
		{name: "Kafka's data is wiped", remade: true, fault: outage((*realkafka.Cluster).Wipe, time.Second, (*realkafka.Cluster).Start)},
		{name: "the leader of three brokers is killed (-9)", brokers: 3, fault: func(w *world) {
			leader := w.leader(-1)
			w.hold(where, w.pods...)
			w.kafka.Kill(leader)
			release(w.pods...)
			w.comesBack(leader)
		}},
	}
}

// topicRows are faults that take the topic away.
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
			sleep(w.ctx, w.during(time.Second))
			for _, p := range away {
				p.away.Store(false)
				p.Hop() // as the page does when the network is back
			}
		}},
		{name: "the topic is deleted and made again with more records than before", remade: true, fault: func(w *world) {
			setFault(w, w.pods, func(_ *rand.Rand, r request) action { return action{CutBefore: r.Key == kmsg.CreateTopics} }) // pods would make it, too
			kafkatest.Recreate(w.t, w.kafka.Addrs(), w.topic, w.moreLines()...)
			heal(w.pods)
		}},
		{
			name: "the leader of three brokers is killed (-9), after it stored messages, before the others have copied them", brokers: 3,
			fault: func(w *world) {
				leader := w.leader(-1)
				others := []int{(leader + 1) % 3, (leader + 2) % 3}
				for _, broker := range others {
					w.kafka.Pause(broker)
				}
				sleep(w.ctx, gathering)
				w.kafka.Kill(leader)
				for _, broker := range others {
					w.kafka.Resume(broker)
				}
				w.comesBack(leader)
			},
		},
	}
}

// comesBack ends the fault when another leader has been elected; the killed one comes back later.
func (w *world) comesBack(leader int) {
	w.leader(leader)
	w.ended = time.Now()
	sleep(w.ctx, w.during(3*time.Second))
	w.kafka.Start(leader)
}

// leader asks who leads the topic's partition, until it is another one than this.
func (w *world) leader(not int) int {
	w.t.Helper()
	client := w.connect()
	defer client.Close()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); sleep(w.ctx, 20*time.Millisecond) {
		if client.RefreshMetadata(w.topic) != nil {
			continue
		}
		if leader, err := client.Leader(w.topic, 0); err == nil && int(leader.ID()) != not {
			return int(leader.ID())
		}
	}
	w.t.Fatal("nobody leads the topic")
	return 0
}

// moreLines are what another program writes to the topic: more records than it has.
func (w *world) moreLines() []string {
	client := w.connect()
	defer client.Close()
	lines := make([]string, w.end(client)+500)
	for i := range lines {
		lines[i] = fmt.Sprint("line ", i)
	}
	return lines
}

// flood appends n records that pods show once, since they are copies of one another: the topic
// moves on, and the people are not busy with it.
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
