package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/publish"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/leaktest"
)

const patience = 2 * time.Minute

// A world is a publisher whose way to Kafka goes through a proxy. Its log is read past that.
type world struct {
	ctx       context.Context
	topic     string
	proxy     *kafkatest.Proxy
	publisher *publish.Publisher
	*kafka.Ends
	records
}

// Records are what a pod has read of the topic.
type records struct {
	mu       sync.Mutex       // guards the following
	ids      map[string]int64 // the first offset of each
	next     int64            // up to where the topic has been read
	consumer int
	behind   bool
}

func (r *records) Find(id string) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	offset, ok := r.ids[id]
	return offset, ok
}

func (r *records) Reading() (int64, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next, r.consumer
}

func (r *records) Behind() bool { return r.behind }

func (w *world) End(ctx context.Context) (int64, error) {
	b, err := w.Ask(ctx)
	return b.Offset, err
}

// read reads the topic.
func (w *world) read(messages <-chan *sarama.ConsumerMessage) {
	for m := range messages {
		id := string(m.Value)
		w.mu.Lock()
		shown, copied := w.ids[id]
		if !copied {
			shown = m.Offset
			w.ids[id] = shown
		}
		w.next = m.Offset + 1
		w.mu.Unlock()
		w.publisher.Read(id, shown)
	}
}

func newWorld(t *testing.T) *world {
	// sarama's circuit breaker sleeps for ten seconds, whatever has ended. The goroutine of sarama's metrics is for ever.
	metrics := goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")
	leaktest.Check(t, patience, goleak.IgnoreTopFunction("time.Sleep"), metrics)
	brokers := kafkatest.Broker(t)
	ctx, end := context.WithTimeout(context.Background(), patience)
	ids := make(map[string]int64)
	w := &world{ctx: ctx, topic: kafkatest.Topic(t, brokers), proxy: kafkatest.NewProxy(t, brokers), records: records{ids: ids}}
	direct, proxied := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}, &kafka.Cluster{Brokers: []string{w.proxy.Addr()}}
	w.Ends = direct.NewEnds("asking", w.topic, 0, func(error) {})
	consumer := direct.NewConsumer(ctx, "reader", kafka.Following{})
	partition := consumer.ConsumePartition(w.topic, 0, sarama.OffsetOldest)
	w.publisher = publish.New(proxied, "publisher", w.topic, w, func(string, error) {}, slog.New(slog.DiscardHandler))
	var running sync.WaitGroup
	running.Go(func() { w.publisher.Run(ctx) })
	running.Go(func() { w.Ends.Run(ctx) })
	running.Go(func() { w.read(partition.Messages()) })
	t.Cleanup(func() {
		end()
		consumer.Close()
		running.Wait()
	})
	return w
}

// Whatever happens to a send, before or after the broker has stored the record, the message is in the topic when
// Publish says so, and once, since the topic is read to its end before the message is sent again. Each sender keeps its order.
func TestFaultsOfSends(t *testing.T) {
	for name, c := range map[string]struct {
		senders int
		fault   kafkatest.Action // of each third request to store records
	}{
		"cut before it is stored":              {1, kafkatest.Action{CutBefore: true}},
		"stored, answer lost":                  {1, kafkatest.Action{CutAfter: true}},
		"not the leader":                       {1, kafkatest.Action{NotLeader: true}},
		"stored, answers to many senders lost": {20, kafkatest.Action{CutAfter: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var requests, late atomic.Int64
			w.proxy.SetFault(func(r kafkatest.Request) (a kafkatest.Action) {
				if r.Key == kmsg.Produce && requests.Add(1)%3 == 1 {
					a = c.fault
				}
				return a
			})
			var senders sync.WaitGroup
			for sender := range c.senders {
				senders.Go(func() {
					for n, last := 0, int64(-1); n < 10; n++ {
						id := fmt.Sprintf("%d-%d", sender, n)
						offset, err := w.publisher.Publish(w.ctx, id, false, func(p sarama.SyncProducer) (int32, int64, error) {
							begun := time.Now()
							defer func() { late.Add(min(1, int64(time.Since(begun)/time.Second))) }()
							return p.SendMessage(&sarama.ProducerMessage{Topic: w.topic, Value: sarama.StringEncoder(id)})
						})
						if err != nil || offset <= last {
							t.Errorf("message %s is at %d, %v, the one before at %d", id, offset, err, last)
						}
						last = offset
					}
				})
			}
			senders.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			// One sender's failure cuts off the sends of others, and a send without an answer is given up. Each may be stored late.
			if len(w.ids) != 10*c.senders || c.senders == 1 && w.next > 10+late.Load() {
				t.Errorf("%d messages in a topic of %d records", len(w.ids), w.next)
			}
		})
	}
}
