package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/publish"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/leaktest"
)

const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true // sarama's own leave a goroutine behind
	os.Exit(m.Run())
}

// A world is a publisher whose way to Kafka goes through a proxy. Its log is read past that.
type world struct {
	t         *testing.T
	ctx       context.Context // of sends
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

func (w *world) End(ctx context.Context) (int64, error) {
	b, err := w.Ask(ctx)
	return b.Offset, err
}

func (w *world) Behind() bool { return false }

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
	t.Helper()
	// sarama's circuit breaker sleeps for ten seconds, whatever has ended.
	leaktest.Check(t, patience, goleak.IgnoreTopFunction("time.Sleep"))
	brokers := kafkatest.Broker(t)
	w := &world{t: t, topic: kafkatest.Topic(t, brokers), proxy: kafkatest.NewProxy(t, brokers), records: records{ids: make(map[string]int64)}}
	var cancel context.CancelFunc
	var running sync.WaitGroup
	w.ctx, cancel = context.WithTimeout(context.Background(), patience)
	life, end := context.WithCancel(context.Background())
	direct := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
	w.Ends = direct.NewEnds("asking", w.topic, 0, func(error) {})
	consumer := direct.NewConsumer(life, "reader", kafka.Following{})
	partition := consumer.ConsumePartition(w.topic, 0, sarama.OffsetOldest)
	w.publisher = publish.New(&kafka.Cluster{Brokers: []string{w.proxy.Addr()}}, "publisher", w.topic, w, func(string, error) {}, slog.New(slog.DiscardHandler))
	running.Go(func() { w.publisher.Run(life) })
	running.Go(func() { w.Ends.Run(life) })
	running.Go(func() { w.read(partition.Messages()) })
	t.Cleanup(func() {
		cancel()
		end()
		consumer.Close()
		running.Wait()
	})
	return w
}

func (w *world) publish(ctx context.Context, id string) (int64, error) {
	return w.publisher.Publish(ctx, id, false, func(p sarama.SyncProducer) (int32, int64, error) {
		return p.SendMessage(&sarama.ProducerMessage{Topic: w.topic, Value: sarama.StringEncoder(id)})
	})
}

// want publishes a message, and checks where it is.
func (w *world) want(id string, offset int64) {
	w.t.Helper()
	if got, err := w.publish(w.ctx, id); err != nil || got != offset {
		w.t.Errorf("%q is published at %d, %v; want %d", id, got, err, offset)
	}
}

// Whatever happens to a send, before or after the broker has stored the record, the message is in
// the topic when Publish says so, and once: the topic is read to its end before it is sent again.
func TestFaultsOfASend(t *testing.T) {
	for name, action := range map[string]kafkatest.Action{
		"none":                    {},
		"cut before it is stored": {CutBefore: true},
		"stored, answer lost":     {CutAfter: true},
		"not the leader":          {NotLeader: true},
		"answer late":             {DelayAnswer: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var done atomic.Bool
			w.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key != kmsg.Produce || done.Swap(true) {
					return kafkatest.Action{}
				}
				return action
			})
			w.want("message", 0)
			w.want("next", 1)
			w.want("message", 0) // an id is sent once
			w.want("last", 2)
		})
	}
}

// Twenty senders with connections that are cut again and again: each keeps its order, and every
// message is there.
func TestManySendersThroughCutConnections(t *testing.T) {
	w := newWorld(t)
	w.proxy.SetFault(kafkatest.CutEach(1, 2, 12))
	var senders sync.WaitGroup
	for s := range 20 {
		senders.Go(func() {
			last := int64(-1)
			for n := range 10 {
				offset, err := w.publish(w.ctx, fmt.Sprintf("%d-%d", s, n))
				if err != nil || offset <= last {
					t.Errorf("sender %d: message %d is at %d, %v, the one before at %d", s, n, offset, err, last)
					return
				}
				last = offset
			}
		})
	}
	senders.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ids) != 200 {
		t.Errorf("%d messages in the topic, want 200", len(w.ids))
	}
}

// While Kafka is away a message waits as long as its sender does.
func TestKafkaAway(t *testing.T) {
	for name, fault := range map[string]struct{ begin, end func(*kafkatest.Proxy) }{
		"refuses": {func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, func(p *kafkatest.Proxy) { p.Refuse(false) }},
		"hangs":   {func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) }, (*kafkatest.Proxy).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			fault.begin(w.proxy)
			short, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
			defer cancel()
			if _, err := w.publish(short, "short"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while Kafka is away: %v", err)
			}
			time.AfterFunc(100*time.Millisecond, func() { fault.end(w.proxy) })
			if _, err := w.publish(w.ctx, "patient"); err != nil {
				t.Error(err)
			}
		})
	}
}
