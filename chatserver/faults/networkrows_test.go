//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafkatest"
)

// networkRows are faults of the network between pods and Kafka that hit messages on their way.
func networkRows(where way) []row {
	direction, delay := kafkatest.Requests, func(d time.Duration) kafkatest.Action { return kafkatest.Action{Delay: d} }
	cut := kafkatest.Action{CutBefore: true}
	if where == unanswered {
		direction, delay = kafkatest.Answers, func(d time.Duration) kafkatest.Action { return kafkatest.Action{DelayAnswer: d} }
		cut = kafkatest.Action{CutAfter: true}
	}
	return []row{
		{name: fmt.Sprint("two of three pods get nothing through, ", where), fault: func(w *world) {
			for _, p := range w.pods[:2] {
				p.proxy.Pause(direction)
			}
			sleep(w.ctx, w.during(10*time.Second))
			for _, p := range w.pods[:2] {
				p.proxy.Resume()
			}
		}},
		{name: fmt.Sprint("one request in ten resets its connection, ", where), fault: func(w *world) {
			setFault(w.pods, func() func(kafkatest.Request) kafkatest.Action {
				return w.sometimes(0.1, func(*rand.Rand) kafkatest.Action { return cut }, kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata)
			})
			sleep(w.ctx, w.during(15*time.Second))
			setFault(w.pods, healthy)
		}},
		{name: fmt.Sprint("half of the requests are delayed by up to 0.5 s, ", where), fault: func(w *world) {
			setFault(w.pods, func() func(kafkatest.Request) kafkatest.Action {
				return w.sometimes(0.5, func(dice *rand.Rand) kafkatest.Action {
					return delay(time.Duration(dice.Int64N(int64(time.Second / 2))))
				}, kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata)
			})
			sleep(w.ctx, w.during(15*time.Second))
			setFault(w.pods, healthy)
		}},
		{name: fmt.Sprint("each connection is cut after 1–25 requests, ", where), fault: func(w *world) {
			for _, p := range w.pods {
				each := kafkatest.CutEach(w.rng.Uint64(), 1, 25)
				p.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
					if each(r).CutBefore {
						return cut
					}
					return kafkatest.Action{}
				})
			}
			sleep(w.ctx, w.during(time.Hour))
			setFault(w.pods, healthy)
		}},
		{name: fmt.Sprint("a pod is cut off for longer than the dedupe window, ", where), fault: func(w *world) {
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

func healthy() func(kafkatest.Request) kafkatest.Action { return nil }

// readerRows are faults of what pods read from Kafka.
func readerRows() []row {
	return []row{
		{name: "brokers say that they lead nothing, one request in five", fault: func(w *world) {
			setFault(w.pods, func() func(kafkatest.Request) kafkatest.Action {
				return w.sometimes(0.2, func(*rand.Rand) kafkatest.Action { return kafkatest.Action{NotLeader: true} }, kmsg.Produce, kmsg.Fetch)
			})
			sleep(w.ctx, w.during(15*time.Second))
			setFault(w.pods, healthy)
		}},
		{name: "one of three pods reads 0–2 s late, while clients hop between pods", fault: func(w *world) {
			w.lag(0, 2*time.Second, w.pods[0])
			w.eachNowAndThen(w.during(time.Hour), (*person).Hop)
			setFault(w.pods, healthy)
		}},
		{name: "two of three pods read nothing for 8 s, but can write", fault: func(w *world) {
			end := time.Now().Add(8 * time.Second)
			for _, p := range w.pods[:2] {
				p.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
					if isConsumer(r) {
						return kafkatest.Action{DelayAnswer: time.Until(end)}
					}
					return kafkatest.Action{}
				})
			}
			sleep(w.ctx, time.Until(end))
			setFault(w.pods, healthy)
		}},
		{name: "one fetch of each pod is never answered", fault: func(w *world) {
			for _, p := range w.pods {
				conn := -1
				p.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
					if isConsumer(r) && conn < 0 {
						conn = r.Conn
					}
					if r.Conn == conn {
						return kafkatest.Action{DelayAnswer: time.Hour}
					}
					return kafkatest.Action{}
				})
			}
			sleep(w.ctx, gathering) // what was under way arrives; then nothing does
		}},
		{name: "one answer in three to a write is lost, while all pods read 0.5–1 s late", fault: func(w *world) {
			setFault(w.pods, func() func(kafkatest.Request) kafkatest.Action {
				lose := w.sometimes(1.0/3, func(*rand.Rand) kafkatest.Action { return kafkatest.Action{CutAfter: true} }, kmsg.Produce)
				late := w.sometimes(1, func(dice *rand.Rand) kafkatest.Action {
					return kafkatest.Action{DelayAnswer: time.Second/2 + time.Duration(dice.Int64N(int64(time.Second/2)))}
				}, kmsg.Fetch)
				return func(r kafkatest.Request) kafkatest.Action {
					if r.Key == kmsg.Produce {
						return lose(r)
					}
					return late(r)
				}
			})
			sleep(w.ctx, w.during(15*time.Second))
			setFault(w.pods, healthy)
		}},
	}
}
