package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"go.uber.org/goleak"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// open returns a session and a partition consumer from the topic's beginning; both end with the
// test.
func open(t *testing.T, cluster *kafka.Cluster, topic string) (*kafka.Session, sarama.PartitionConsumer) {
	t.Helper()
	s, err := cluster.NewSession(t.Context(), "test", topic)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p, err := s.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// A reader is a partition that is read.
type reader interface {
	Messages() <-chan *sarama.ConsumerMessage
}

// expect receives these values, in this order.
func expect(t *testing.T, p reader, values ...string) {
	t.Helper()
	for _, want := range values {
		select {
		case m, ok := <-p.Messages():
			if !ok || string(m.Value) != want {
				t.Fatalf("got %v (open: %v), want %q", m, ok, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", want)
		}
	}
}

// ended waits until Messages() is closed without another record.
func ended(t *testing.T, p reader) {
	t.Helper()
	select {
	case m, ok := <-p.Messages():
		if ok {
			t.Fatalf("got %q, want the end", m.Value)
		}
	case <-time.After(patience):
		t.Fatal("messages did not end")
	}
}

// A session reads up to the end, says so, and ends at the first fault: it does not go on by itself,
// not even if a topic of the same name has other records by then.
func TestSessionEndsAtAFault(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		fault func(*testing.T, *kafkatest.Proxy)
		want  error // nil: any
	}{
		"connection lost": {func(_ *testing.T, p *kafkatest.Proxy) { p.Cut() }, nil},
		"leader moved": {func(_ *testing.T, p *kafkatest.Proxy) {
			p.SetFault(func(r kafkatest.Request) kafkatest.Action {
				return kafkatest.Action{NotLeader: r.Key.Name() == "Fetch"}
			})
		}, sarama.ErrNotLeaderForPartition},
		"one fetch is never answered": {func(t *testing.T, p *kafkatest.Proxy) {
			held := false
			p.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key.Name() != "Fetch" || held {
					return kafkatest.Action{}
				}
				held = true
				return kafkatest.Action{HoldAnswer: t.Context().Done()}
			})
		}, nil},
	}
	for name, test := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			kafkatest.Produce(t, brokers, topic, "a", "b")
			proxy := kafkatest.NewProxy(t, brokers)
			s, p := open(t, at(t, proxy.Addr()), topic)
			expect(t, p, "a", "b")
			within(t, "reaching the end", func() bool { return s.Reached(0) == 2 })
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
			test.fault(t, proxy)
			if name == "one fetch is never answered" {
				ended(t, p)
			} else {
				within(t, "an error", func() bool { return s.Err() != nil })
				kafkatest.Recreate(t, brokers, topic, "other a", "other b", "other c")
				ended(t, p)
			}
			if err := s.Err(); test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("ended with %v, want %v", err, test.want)
			}
		})
	}
}

func TestSessionCloseIsQuick(t *testing.T) {
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	ignore := goleak.IgnoreCurrent()
	s, err := at(t, proxy.Addr()).NewSession(t.Context(), "test", topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ConsumePartition(topic, 0, 0); err != nil {
		t.Fatal(err)
	}
	proxy.Pause(kafkatest.Answers) // a fetch that is never answered
	begun := time.Now()
	s.Close()
	if took := time.Since(begun); took > 2*time.Second { // the fetch's own time-out is longer
		t.Errorf("closing took %v", took)
	}
	goleak.VerifyNone(t, ignore)
}

// A consumer goes on after faults without loss or repetition, and knows a topic that was made
// again: it says so, and goes on with that one.
func TestConsumerGoesOn(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b")
	proxy := kafkatest.NewProxy(t, brokers)
	said := make(chan error, 100)
	c, err := at(t, proxy.Addr()).NewConsumer(t.Context(), "test", topic, kafka.Following{Say: func(_ int32, err error) { said <- err }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p, "a", "b")
	for i := range 3 {
		proxy.Cut()
		value := fmt.Sprint("after cut ", i)
		kafkatest.Produce(t, brokers, topic, value)
		expect(t, p, value)
	}
	proxy.Refuse(true)
	proxy.Cut()
	kafkatest.Recreate(t, brokers, topic, "1", "2", "3", "4", "5", "6", "7")
	proxy.Refuse(false)
	expect(t, p, "1", "2", "3", "4", "5", "6", "7")
	for err := range said {
		if errors.Is(err, kafka.ErrAnotherTopic) {
			break
		}
	}
}

func TestConsumerReadsToTheEnd(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	for _, values := range [][]string{nil, {"a", "b", "c"}} {
		kafkatest.Produce(t, brokers, topic, values...)
		c, err := at(t, brokers).NewConsumer(t.Context(), "test", topic, kafka.Following{ToEnd: true})
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.ConsumePartition(topic, 0, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, p, values...)
		ended(t, p)
		if err := errors.Join(c.Err(), c.Close()); err != nil {
			t.Error(err)
		}
	}
}

// The ends are known while a question is answered, and why not while it is not.
func TestEnds(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b")
	proxy := kafkatest.NewProxy(t, brokers)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 100)
	e := at(t, proxy.Addr()).NewEnds("test", topic, 0, func(err error) { told <- err })
	done := make(chan struct{})
	go func() { e.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for range 2 {
		asked := time.Now()
		b, err := e.Ask(ctx)
		if err != nil || b.Oldest != 0 || b.Newest != 2 || b.Asked.Before(asked) || e.Last() != b {
			t.Fatalf("got %+v, %v", b, err)
		}
	}
	proxy.Refuse(true)
	proxy.Cut()
	within(t, "being told that there is no answer", func() bool { return <-told != nil })
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if b, err := e.Ask(short); err == nil {
		t.Errorf("got %+v of a broker that is away", b)
	}
	proxy.Refuse(false)
	within(t, "being told that there is one", func() bool { return <-told == nil })
}

// within repeats look until it says yes, or ends the test.
func within(t *testing.T, what string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !look(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}
