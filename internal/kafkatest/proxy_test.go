package kafkatest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.ClientID = "test"
	config.Net.ReadTimeout = time.Second
	config.Metadata.Retry.Max = 0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Timeout = 800 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	config.Consumer.Retry.Backoff = 10 * time.Millisecond
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	return config
}

func newProducer(t *testing.T, brokers string) sarama.SyncProducer {
	t.Helper()
	producer, err := sarama.NewSyncProducer(strings.Split(brokers, ","), newConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close() })
	return producer
}

func send(producer sarama.SyncProducer, topic, value string) error {
	_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	return err
}

func fault(action kafkatest.Action, key kmsg.Key) func(kafkatest.Request) kafkatest.Action {
	return func(r kafkatest.Request) kafkatest.Action {
		if r.Key == key {
			return action
		}
		return kafkatest.Action{}
	}
}

func TestProxyPassesEverything(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	p := kafkatest.NewProxy(t, brokers)
	client, err := sarama.NewClient(strings.Split(p.Addr(), ","), newConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, b := range client.Brokers() {
		if slices.Contains(strings.Split(brokers, ","), b.Addr()) {
			t.Errorf("the client was told of %s, which is not the proxy", b.Addr())
		}
	}
	const n = 2000
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i, strings.Repeat("x", i)))
	}
	done := make(chan []string, 1)
	go func() { done <- values(t, p.Addr(), topic, n) }()
	kafkatest.Produce(t, p.Addr(), topic, want...)
	if got := <-done; !slices.Equal(got, want) {
		t.Error("the records came back in another way")
	}
}

// A fault on Produce is either before or after the broker has stored the record.
func TestProxyFaultsOnProduce(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	tests := []struct {
		name   string
		action kafkatest.Action
		want   error // nil: any
		stored bool
	}{
		{"cut before", kafkatest.Action{CutBefore: true}, nil, false},
		{"cut after", kafkatest.Action{CutAfter: true}, nil, true},
		{"not leader", kafkatest.Action{NotLeader: true}, sarama.ErrNotLeaderForPartition, false},
		{"answer too late", kafkatest.Action{DelayAnswer: time.Minute}, nil, true},
		{"request too late", kafkatest.Action{Delay: time.Minute}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			topic := kafkatest.Topic(t, brokers)
			p := kafkatest.NewProxy(t, brokers)
			producer := newProducer(t, p.Addr())
			if err := send(producer, topic, "before"); err != nil {
				t.Fatal(err)
			}
			p.SetFault(fault(tt.action, kmsg.Produce))
			if err := send(producer, topic, "fault"); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("sending under the fault: %v, want %v", err, tt.want)
			}
			p.SetFault(nil)
			p.Cut()
			if err := send(newProducer(t, p.Addr()), topic, "after"); err != nil {
				t.Fatal(err)
			}
			want := []string{"before", "fault", "after"}
			if !tt.stored {
				want = []string{"before", "after"}
			}
			if got := values(t, brokers, topic, len(want)); !slices.Equal(got, want) {
				t.Errorf("the topic has %q, want %q", got, want)
			}
		})
	}
}

func TestProxyHoldsFetchesWhileProduceWorks(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	p := kafkatest.NewProxy(t, brokers)
	release, held := make(chan struct{}), make(chan struct{})
	first := true
	p.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key != kmsg.Fetch {
			return kafkatest.Action{}
		}
		if first {
			first = false
			close(held)
		}
		return kafkatest.Action{HoldAnswer: release}
	})
	got := make(chan []string, 1)
	go func() { got <- values(t, p.Addr(), topic, 2) }()
	<-held
	producer := newProducer(t, p.Addr())
	for _, v := range []string{"a", "b"} {
		if err := send(producer, topic, v); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case v := <-got:
		t.Fatalf("%q came through", v)
	case <-time.After(500 * time.Millisecond): // closing a consumer takes up to 200 ms
	}
	close(release)
	if v := <-got; !slices.Equal(v, []string{"a", "b"}) {
		t.Errorf("got %q", v)
	}
}

func TestProxyPauses(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	for _, d := range []kafkatest.Direction{kafkatest.Requests, kafkatest.Answers, kafkatest.Both} {
		topic := kafkatest.Topic(t, brokers)
		p := kafkatest.NewProxy(t, brokers)
		config := newConfig()
		config.Net.ReadTimeout = time.Minute
		producer, err := sarama.NewSyncProducer(strings.Split(p.Addr(), ","), config)
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		if err := send(producer, topic, "before"); err != nil {
			t.Fatal(err)
		}
		p.Pause(d)
		sent := make(chan error, 1)
		go func() { sent <- send(producer, topic, "paused") }()
		select {
		case err := <-sent:
			t.Errorf("paused %d, and sent: %v", d, err)
		case <-time.After(100 * time.Millisecond):
		}
		conns := p.Conns()
		p.Resume()
		if err := <-sent; err != nil {
			t.Errorf("after the pause: %v", err)
		}
		if p.Conns() != conns || conns == 0 {
			t.Errorf("%d connections in the pause, %d after it", conns, p.Conns())
		}
	}
}

func TestProxyCutsAndRefuses(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	p := kafkatest.NewProxy(t, brokers)
	producer := newProducer(t, p.Addr())
	if err := send(producer, topic, "1"); err != nil {
		t.Fatal(err)
	}
	p.Refuse(true)
	if err := send(producer, topic, "2"); err != nil {
		t.Errorf("an open connection is refused: %v", err)
	}
	p.Cut()
	if err := send(producer, topic, "cut"); err == nil {
		t.Error("sent without a connection")
	}
	if c, err := sarama.NewClient(strings.Split(p.Addr(), ","), newConfig()); err == nil {
		c.Close()
		t.Error("a new connection is not refused")
	}
	if n := p.Conns(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
	p.Refuse(false)
	if err := send(newProducer(t, p.Addr()), topic, "3"); err != nil {
		t.Error(err)
	}
	if got := values(t, brokers, topic, 3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("the topic has %q", got)
	}
}

// Whatever is cut when: a consumer gets everything once, in order.
func TestProxyCutsEachConnection(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	p := kafkatest.NewProxy(t, brokers)
	cut := kafkatest.CutEach(1, 3, 8)
	var cuts atomic.Int64
	p.SetFault(func(r kafkatest.Request) kafkatest.Action {
		action := cut(r)
		if action.CutBefore {
			cuts.Add(1)
		}
		return action
	})
	const n = 200
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	got := make(chan []string, 1)
	go func() { got <- values(t, p.Addr(), topic, n) }()
	producer := newProducer(t, brokers)
	for _, v := range want {
		if err := send(producer, topic, v); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if v := <-got; !slices.Equal(v, want) {
		t.Errorf("got %q", v)
	}
	if cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
	// The same seed, the same cuts.
	for n := range 10 {
		a, b := kafkatest.CutEach(7, 0, 5), kafkatest.CutEach(7, 0, 5)
		if r := (kafkatest.Request{Conn: n, N: 3}); a(r) != b(r) {
			t.Errorf("connection %d is cut and is not", n)
		}
	}
}
