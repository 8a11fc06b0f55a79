//go:build faults

package faults

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafkatest"
)

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
			before := w.end()
			w.kafka.Wipe(0)
			for _, p := range w.pods {
				p.proxy.Refuse(true)
				p.proxy.Cut()
			}
			w.kafka.Start(0)
			kafkatest.Recreate(w.t, w.kafka.Addrs(), w.topic, foreign(before+500)...)
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
			kafkatest.Recreate(w.t, w.kafka.Addrs(), w.topic, foreign(w.end()+500)...)
		}},
		{name: "the leader of three brokers is killed (-9), after it stored messages, before the others have copied them", brokers: 3, fault: func(w *world) {
			leader := w.leader()
			for broker := range 3 {
				if broker != leader {
					w.kafka.Pause(broker)
				}
			}
			sleep(w.ctx, gathering)
			w.loseLeader(leader, func() {
				for broker := range 3 {
					if broker != leader {
						w.kafka.Resume(broker)
					}
				}
			})
		}},
	}
}

// foreign are lines that another program writes to the topic.
func foreign(n int64) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprint("line ", i)
	}
	return lines
}

// end asks where the topic ends.
func (w *world) end() int64 {
	w.t.Helper()
	client := w.connect()
	defer client.Close()
	end, err := client.GetOffset(w.topic, 0, sarama.OffsetNewest)
	if err != nil {
		w.t.Fatalf("asking where the topic ends: %v", err)
	}
	return end
}

// flood appends n records that pods show once, since they are copies of one another: the topic
// moves on, and the people are not busy with it.
func (w *world) flood(n int) {
	w.t.Helper()
	headers := chat.Headers(chat.Message{ID: strings.Repeat("flood", 5)})
	records := make([]*sarama.ProducerMessage, n)
	for i := range records {
		records[i] = &sarama.ProducerMessage{Value: sarama.StringEncoder("x"), Headers: headers}
	}
	for batch := range slices.Chunk(records, 1000) { // Kafka takes no batch of more than 1 MiB
		kafkatest.ProduceRecords(w.t, w.kafka.Addrs(), w.topic, batch...)
	}
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
