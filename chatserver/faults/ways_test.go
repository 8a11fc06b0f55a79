//go:build faults

package faults

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// A way is how a fault hits a message that is on its way from a pod to Kafka.
type way bool

const (
	unstored   way = false // before the broker has stored it
	unanswered way = true  // after that, and before the pod has got the answer
)

func (w way) String() string {
	if w == unstored {
		return "before messages are stored"
	}
	return "after messages are stored, before the answer"
}

// gathering is how long messages are held so that a fault hits many of them.
const gathering = 300 * time.Millisecond

// hold keeps the messages of some pods in a place between the pod and the topic for a moment.
// What it holds never goes on: who calls it has to end these connections.
func (w *world) hold(where way, pods ...*pod) {
	for _, p := range pods {
		p.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
			switch {
			case where == unstored && r.Key == kmsg.Produce:
				return kafkatest.Action{Delay: time.Hour}
			case where == unanswered && (r.Key == kmsg.Produce || isConsumer(r)):
				// What the pod read back would be an answer, too.
				return kafkatest.Action{DelayAnswer: time.Hour}
			}
			return kafkatest.Action{}
		})
	}
	sleep(w.ctx, gathering)
}

// release ends what hold began, and all connections with it.
func release(pods ...*pod) {
	for _, p := range pods {
		p.proxy.SetFault(nil)
		p.proxy.Cut()
	}
}

// lag has pods read the topic late: each answer to a fetch takes between least and most.
func (w *world) lag(least, most time.Duration, pods ...*pod) {
	for _, p := range pods {
		dice := rand.New(rand.NewPCG(w.rng.Uint64(), 3))
		p.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
			if !isConsumer(r) {
				return kafkatest.Action{}
			}
			return kafkatest.Action{DelayAnswer: least + time.Duration(dice.Int64N(int64(most-least)+1))}
		})
	}
}

// isConsumer says whether a request asks for the topic's records.
func isConsumer(r kafkatest.Request) bool {
	return r.Key == kmsg.Fetch && strings.Contains(r.Client, "consumer")
}

// sometimes makes a fault of chance: an action for each request of these keys with this
// probability.
func (w *world) sometimes(probability float64, action func(dice *rand.Rand) kafkatest.Action, keys ...kmsg.Key) func(kafkatest.Request) kafkatest.Action {
	dice := rand.New(rand.NewPCG(w.rng.Uint64(), 4))
	return func(r kafkatest.Request) kafkatest.Action {
		for _, key := range keys {
			if r.Key == key && dice.Float64() < probability {
				return action(dice)
			}
		}
		return kafkatest.Action{}
	}
}

// setFault gives each pod's proxy a fault of its own.
func setFault(pods []*pod, fault func() func(kafkatest.Request) kafkatest.Action) {
	for _, p := range pods {
		p.proxy.SetFault(fault())
	}
}
