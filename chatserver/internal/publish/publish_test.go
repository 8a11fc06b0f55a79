package publish_test

import (
	"context"
	"crypto/rand"
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
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true // sarama's own, which would leave a goroutine behind
	os.Exit(m.Run())
}

const patience = 60 * time.Second

// A reader reads the topic past the proxy, and is the publisher's log.
type reader struct {
	mu     sync.Mutex
	ids    map[string]int64 // the first offset of each
	copies map[string]int
	next   int64
}

func (r *reader) Find(id string) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	offset, ok := r.ids[id]
	return offset, ok
}

func (r *reader) Next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

func (r *reader) HasRead(end int64) bool { return r.Next() >= end }

// A world is a publisher whose way to Kafka goes through a proxy.
type world struct {
	*reader
	t         *testing.T
	topic     string
	proxy     *kafkatest.Proxy
	publisher *publish.Publisher
	asking    sarama.Client
	failing   atomic.Value // what was reported last, an error's text
	behind    atomic.Bool
	looked    chan struct{} // capacity 1: the publisher has asked where the topic ends
	reading   sync.Mutex    // while it is held, nothing is read
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	// sarama's circuit breaker sleeps for ten seconds, whatever has ended.
	breaker := goleak.IgnoreTopFunction("time.Sleep")
	t.Cleanup(func() { goleak.VerifyNone(t, ignore, breaker) })
	brokers := kafkatest.Broker(t)
	w := &world{
		t: t, topic: kafkatest.Topic(t, brokers), proxy: kafkatest.NewProxy(t, brokers),
		reader: &reader{ids: make(map[string]int64), copies: make(map[string]int)},
		looked: make(chan struct{}, 1),
	}
	w.failing.Store("")
	direct, err := kafka.FromEnv(func(name string) string { return map[string]string{"KAFKA_BROKER": brokers}[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	client, err := sarama.NewClient(direct.Brokers, direct.Config(ctx, "reader"))
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	partition, err := consumer.ConsumePartition(w.topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	w.asking, err = sarama.NewClient(direct.Brokers, direct.Config(ctx, "asking"))
	if err != nil {
		t.Fatal(err)
	}
	through, err := kafka.FromEnv(func(name string) string { return map[string]string{"KAFKA_BROKER": w.proxy.Addr()}[name] })
	if err != nil {
		t.Fatal(err)
	}
	w.publisher = publish.New(through, "publisher", w.topic, w, func(err error) {
		if err == nil {
			err = errors.New("")
		}
		w.failing.Store(err.Error())
	}, slog.New(slog.DiscardHandler))
	var running sync.WaitGroup
	running.Go(func() { w.publisher.Run(ctx) })
	running.Go(func() {
		for m := range partition.Messages() {
			w.reading.Lock()
			w.read(m)
			w.reading.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		partition.Close()
		consumer.Close()
		client.Close()
		w.asking.Close()
		running.Wait()
	})
	return w
}

func (w *world) End(context.Context) (int64, error) {
	note(w.looked)
	return w.asking.GetOffset(w.topic, 0, sarama.OffsetNewest)
}

func (w *world) Behind() bool { return w.behind.Load() }

func (w *world) Suspect() {}

func (w *world) read(m *sarama.ConsumerMessage) {
	id := string(m.Value)
	w.mu.Lock()
	if _, ok := w.ids[id]; !ok {
		w.ids[id] = m.Offset
	}
	w.copies[id]++
	w.next = m.Offset + 1
	shown := w.ids[id]
	w.mu.Unlock()
	w.publisher.Read(id, m.Offset, shown)
}

func (w *world) publish(ctx context.Context, id string) (int64, error) { return w.send(ctx, id, false) }

func (w *world) send(ctx context.Context, id string, again bool) (int64, error) {
	return w.publisher.Publish(ctx, id, again, func(p sarama.SyncProducer) (int32, int64, error) {
		return p.SendMessage(&sarama.ProducerMessage{Topic: w.topic, Value: sarama.StringEncoder(id)})
	})
}

// note says, without waiting, that something has happened.
func note(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fault has the proxy do something to the first n produce requests.
func (w *world) fault(n int, action kafkatest.Action) {
	left := n
	w.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key != kmsg.Produce || left == 0 {
			return kafkatest.Action{}
		}
		left--
		return action
	})
}

// Whatever happens to a send, before or after the broker has stored the record, the message is in
// the topic when Publish says so, and at most twice.
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
			w.fault(1, action)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			offset, err := w.publish(ctx, "message")
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := w.Find("message"); !ok || got != offset {
				t.Errorf("published at %d, the log has it at %d, %v", offset, got, ok)
			}
			w.proxy.SetFault(nil)
			if _, err := w.publish(ctx, "next"); err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if n := w.copies["message"]; n != 1 {
				t.Errorf("%d copies", n) // the log is read to its end before it is sent again
			}
		})
	}
}

// A hundred senders with connections that are cut again and again: each keeps its order, and every
// message is there once.
func TestManySendersThroughCutConnections(t *testing.T) {
	w := newWorld(t)
	w.proxy.SetFault(kafkatest.CutEach(1, 2, 12))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var senders sync.WaitGroup
	for s := range 20 {
		senders.Go(func() {
			last := int64(-1)
			for n := range 10 {
				offset, err := w.publish(ctx, fmt.Sprintf("%d-%d", s, n))
				if err != nil {
					t.Errorf("sender %d, message %d: %v", s, n, err)
					return
				}
				if offset <= last {
					t.Errorf("sender %d: message %d is at %d, the one before at %d", s, n, offset, last)
				}
				last = offset
			}
		})
	}
	senders.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.copies {
		if n > 2 {
			t.Errorf("%d copies of %s", n, id)
		}
	}
	if len(w.ids) != 200 {
		t.Errorf("%d messages in the topic, want 200", len(w.ids))
	}
}

func TestSameIDIsSentOnce(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	first, err := w.publish(ctx, "same")
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.publish(ctx, "same")
	if err != nil || again != first {
		t.Errorf("the second time: %d, %v; want %d", again, err, first)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.copies["same"] != 1 {
		t.Errorf("%d copies", w.copies["same"])
	}
}

// A pod that has not read the topic for long does not send before it has: the message may be there.
func TestBehind(t *testing.T) {
	w := newWorld(t)
	w.behind.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kafkatest.Produce(t, w.proxy.Addr(), w.topic, "other", "message")
	offset, err := w.publish(ctx, "message")
	if err != nil || offset != 1 {
		t.Errorf("published at %d, %v; it was there at 1", offset, err)
	}
	if offset, err := w.publish(ctx, "new"); err != nil || offset != 2 {
		t.Errorf("published at %d, %v; want 2", offset, err)
	}
}

// What was sent before, through another pod, is looked for in the topic before it is sent, also if
// this pod has not read it yet.
func TestAgainLooksFirst(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.reading.Lock()
	kafkatest.Produce(t, w.proxy.Addr(), w.topic, "message")
	sent := make(chan struct{}, 1)
	w.proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key == kmsg.Produce {
			note(sent)
		}
		return kafkatest.Action{}
	})
	var offset int64
	done := make(chan error, 1)
	go func() {
		var err error
		offset, err = w.send(ctx, "message", true)
		done <- err
	}()
	select {
	case <-w.looked:
	case <-sent:
		t.Error("it was sent, and not looked for")
	case <-ctx.Done():
	}
	w.reading.Unlock()
	if err := <-done; err != nil || offset != 0 {
		t.Errorf("published at %d, %v; it was there at 0", offset, err)
	}
	if next, err := w.publish(ctx, "next"); err != nil || next != 1 {
		t.Errorf("what came next is at %d, %v; want 1, after a single copy", next, err)
	}
}

// A topic whose min.insync.replicas is not met refuses each message for a while: it is said once, and the
// message is sent again ever more seldom, and at last once.
func TestRefusedForAWhile(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tries, begun := 0, time.Now()
	offset, err := w.publisher.Publish(ctx, "message", false, func(p sarama.SyncProducer) (int32, int64, error) {
		if tries++; time.Since(begun) < 2*time.Second {
			return 0, 0, sarama.ErrNotEnoughReplicas
		}
		if said := w.failing.Load().(string); !strings.Contains(said, publish.ErrRefused.Error()) || !strings.Contains(said, "in-sync replicas") {
			t.Errorf("while it is refused: %q", said)
		}
		return p.SendMessage(&sarama.ProducerMessage{Topic: w.topic, Value: sarama.StringEncoder("message")})
	})
	if err != nil || offset != 0 {
		t.Errorf("published at %d, %v", offset, err)
	}
	if tries > 8 {
		t.Errorf("tried %d times within 2 s", tries)
	}
	if said := w.failing.Load(); said != "" {
		t.Errorf("at last: %q", said)
	}
}

func TestKafkaAway(t *testing.T) {
	w := newWorld(t)
	w.publisher.GiveUpAfter(time.Second)
	w.proxy.Refuse(true)
	w.proxy.Cut()
	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := w.publish(short, rand.Text()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while Kafka is away: %v", err)
	}
	long, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := w.publish(long, "patient"); done <- err }()
	w.proxy.Refuse(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTooLargeIsRejected(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var rejected *publish.Rejected
	if _, err := w.publish(ctx, string(make([]byte, 2<<20))); !errors.As(err, &rejected) || !strings.HasPrefix(err.Error(), "Kafka refused the message: ") {
		t.Errorf("a message of 2 MiB: %v", err)
	}
}
