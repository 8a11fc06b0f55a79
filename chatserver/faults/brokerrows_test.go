//go:build faults

package faults

import (
	"fmt"
	"strings"
	"time"

	"github.com/Shopify/sarama"
)

const brokerStart = 60 * time.Second // on a machine that is busy with other tests

// brokerRows are faults of brokers that hit messages on their way.
func brokerRows(where way) []row {
	return []row{
		{name: fmt.Sprint("the broker is killed (-9) and started again, ", where), fault: func(w *world) {
			w.hold(where, w.pods...)
			w.kafka.Kill(0)
			release(w.pods...)
			sleep(w.ctx, w.during(3*time.Second))
			w.kafka.Start(0)
		}},
		{name: fmt.Sprint("the broker is frozen (SIGSTOP), ", where), fault: func(w *world) {
			w.hold(where, w.pods...)
			w.kafka.Pause(0)
			release(w.pods...)
			sleep(w.ctx, w.during(15*time.Second))
			w.kafka.Resume(0)
		}},
		{name: fmt.Sprint("Kafka's data is wiped, ", where), remade: true, fault: func(w *world) {
			w.hold(where, w.pods...)
			w.kafka.Wipe(0)
			release(w.pods...)
			sleep(w.ctx, w.during(time.Second))
			w.kafka.Start(0)
		}},
		{name: fmt.Sprint("the leader of three brokers is killed (-9), ", where), brokers: 3, fault: func(w *world) {
			leader := w.leader()
			w.hold(where, w.pods...)
			w.loseLeader(leader, func() { release(w.pods...) })
		}},
	}
}

// loseLeader kills the leader, and returns when another has been elected; the killed one comes
// back when the fault is over.
func (w *world) loseLeader(leader int, then func()) {
	w.kafka.Kill(leader)
	then()
	for w.leader() == leader {
		sleep(w.ctx, 20*time.Millisecond)
	}
	w.ended = time.Now()
	sleep(w.ctx, w.during(3*time.Second))
	w.kafka.Start(leader)
}

// leader asks a broker that lives who leads the topic's partition.
func (w *world) leader() int {
	w.t.Helper()
	for deadline := time.Now().Add(brokerStart); time.Now().Before(deadline); sleep(w.ctx, 20*time.Millisecond) {
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		config.Net.DialTimeout, config.Net.ReadTimeout = time.Second, time.Second
		config.Metadata.Retry.Max = 0
		client, err := sarama.NewClient(strings.Split(w.kafka.Addrs(), ","), config)
		if err != nil {
			continue
		}
		leader, _, err := client.LeaderAndEpoch(w.topic, 0)
		client.Close()
		if err == nil {
			return int(leader.ID())
		}
	}
	w.t.Fatal("nobody leads the topic")
	return 0
}
