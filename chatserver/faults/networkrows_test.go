//go:build faults

package faults

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafkatest"
)

type (
	request = kafkatest.Request
	action  = kafkatest.Action
)

// A proxyFault is a fault of a proxy, which has dice of its own.
type proxyFault func(dice *rand.Rand, r request) action

// networkRows are faults of the network between pods and Kafka that hit messages on their way.
func networkRows(where way) []row {
	direction, cut := kafkatest.Requests, action{CutBefore: true}
	if where == unanswered {
		direction, cut = kafkatest.Answers, action{CutAfter: true}
	}
	sometimes := func(dice *rand.Rand, r request, probability float64) bool {
		keys := []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata}
		return slices.Contains(keys, r.Key) && dice.Float64() < probability
	}
	return []row{
		{name: "two of three pods get nothing through", fault: func(w *world) {
			for _, p := range w.pods[:2] {
				p.proxy.Pause(direction)
			}
			sleep(w.ctx, w.during(10*time.Second))
			for _, p := range w.pods[:2] {
				p.proxy.Resume()
			}
		}},
		{name: "one request in ten resets its connection", fault: disturbed(15*time.Second, func(dice *rand.Rand, r request) action {
			if sometimes(dice, r, 0.1) {
				return cut
			}
			return action{}
		})},
		{name: "half of the requests are delayed by up to 0.5 s", fault: disturbed(15*time.Second, func(dice *rand.Rand, r request) (a action) {
			switch delay := between(dice, 0, time.Second/2); {
			case !sometimes(dice, r, 0.5):
			case where == unstored:
				a.Delay = delay
			default:
				a.DelayAnswer = delay
			}
			return a
		})},
		{name: "each connection is cut after 1–25 requests", fault: func(w *world) {
			each := kafkatest.CutEach(w.rng.Uint64(), 1, 25)
			disturbed(time.Hour, func(_ *rand.Rand, r request) (a action) {
				if each(r).CutBefore {
					a = cut
				}
				return a
			})(w)
		}},
		{name: "a pod is cut off for longer than the dedupe window", fault: func(w *world) {
			p := w.pods[0]
			w.hold(where, p)
			p.proxy.Refuse(true)
			release(p)
			w.flood(chat.WindowSize + 1000)
			for _, person := range w.people {
				if w.rng.IntN(3) > 0 { // some of them to the pod that knows nothing of all this
					person.Hop()
				}
			}
			sleep(w.ctx, w.during(time.Second))
			p.proxy.Refuse(false)
		}},
	}
}

// readerRows are faults of what pods read from Kafka.
func readerRows() []row {
	return []row{
		{name: "brokers say that they lead nothing, one request in five", fault: disturbed(15*time.Second, func(dice *rand.Rand, r request) (a action) {
			a.NotLeader = (r.Key == kmsg.Produce || r.Key == kmsg.Fetch) && dice.IntN(5) == 0
			return a
		})},
		{name: "one of three pods reads 0–2 s late, while clients hop between pods", fault: func(w *world) {
			setFault(w, w.pods[:1], late(0, 2*time.Second))
			w.eachNowAndThen(w.during(time.Hour), (*person).Hop)
			heal(w.pods)
		}},
		{name: "two of three pods read nothing for 8 s, but can write", fault: func(w *world) {
			end := time.Now().Add(8 * time.Second)
			setFault(w, w.pods[:2], func(_ *rand.Rand, r request) (a action) {
				if isConsumer(r) {
					a.DelayAnswer = time.Until(end)
				}
				return a
			})
			sleep(w.ctx, time.Until(end))
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
		{
			name: "one answer in three to a write is lost, while all pods read 0.5–1 s late",
			fault: disturbed(15*time.Second, func(dice *rand.Rand, r request) (a action) {
				switch r.Key {
				case kmsg.Produce:
					a.CutAfter = dice.IntN(3) == 0
				case kmsg.Fetch:
					a.DelayAnswer = between(dice, time.Second/2, time.Second)
				}
				return a
			}),
		},
	}
}

// setFault gives some pods' proxies a fault.
func setFault(w *world, pods []*pod, fault proxyFault) {
	for _, p := range pods {
		dice := rand.New(rand.NewPCG(w.rng.Uint64(), 4))
		p.proxy.SetFault(func(r request) action { return fault(dice, r) })
	}
}

func heal(pods []*pod) {
	for _, p := range pods {
		p.proxy.SetFault(nil)
	}
}

// disturbed is a fault of all pods' proxies that lasts as long as there is time, and no longer than full.
func disturbed(full time.Duration, fault proxyFault) func(*world) {
	return func(w *world) {
		setFault(w, w.pods, fault)
		sleep(w.ctx, w.during(full))
		heal(w.pods)
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

func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(dice.Int64N(int64(most-least)))
}

// isConsumer says whether a request asks for the topic's records.
func isConsumer(r request) bool {
	return r.Key == kmsg.Fetch && strings.Contains(r.Client, "consumer")
}

// A way is how a fault hits a message that is on its way from a pod to Kafka.
type way bool

const (
	unstored   way = false // before the broker has stored it
	unanswered way = true  // after that, and before the pod has got the answer
)

// gathering is how long messages are held so that a fault hits many of them.
const gathering = 300 * time.Millisecond

// hold keeps the messages of some pods in a place between the pod and the topic for a moment.
// What it holds never goes on: who calls it has to end these connections.
func (w *world) hold(where way, pods ...*pod) {
	setFault(w, pods, func(_ *rand.Rand, r request) (a action) {
		switch {
		case where == unstored && r.Key == kmsg.Produce:
			a.Delay = time.Hour
		case where == unanswered && (r.Key == kmsg.Produce || isConsumer(r)):
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
