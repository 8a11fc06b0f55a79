package kafkatest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// consume reads partition 0 until the test ends.
func consume(t *testing.T, brokers, topic string, from int64) sarama.PartitionConsumer {
	t.Helper()
	config := sarama.NewConfig()
	config.Consumer.Retry.Backoff, config.Consumer.MaxWaitTime = 10*time.Millisecond, 100*time.Millisecond
	consumer, err := sarama.NewConsumer(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { consumer.Close() })
	partition, err := consumer.ConsumePartition(topic, 0, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { partition.Close() })
	return partition
}

// expect receives these values, in this order.
func expect(t *testing.T, partition sarama.PartitionConsumer, values ...string) {
	t.Helper()
	for _, want := range values {
		select {
		case m := <-partition.Messages():
			if string(m.Value) != want {
				t.Fatalf("got %q, want %q", m.Value, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q did not come", want)
		}
	}
}

// Clients are told of brokers that they did not start with, and reach those through the proxy too.
func TestProxyInFrontOfThreeBrokers(t *testing.T) {
	t.Parallel()
	brokers, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(brokers.Close)
	p := kafkatest.NewProxy(t, brokers.ListenAddrs()[0])
	produced := 0
	p.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key == kmsg.Produce {
			produced++
		}
		return kafkatest.Action{}
	})
	for range 6 { // leaders are spread over the brokers
		topic := kafkatest.Topic(t, p.Addr())
		kafkatest.Recreate(t, p.Addr(), topic, "a", "b")
		expect(t, consume(t, p.Addr(), topic, 0), "a", "b")
	}
	if p.SetFault(nil); produced < 6 {
		t.Errorf("%d requests of 6 producers went through the proxy", produced)
	}
}

// A fault on Produce is either before or after the broker has stored the record.
func TestProxyFaults(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	produce := func(action kafkatest.Action) func(*kafkatest.Proxy) {
		return func(p *kafkatest.Proxy) {
			p.SetFault(func(r kafkatest.Request) kafkatest.Action {
				if r.Key == kmsg.Produce {
					return action
				}
				return kafkatest.Action{}
			})
		}
	}
	for name, test := range map[string]struct {
		fault  func(*kafkatest.Proxy)
		stored bool // in the end
	}{
		"cut before":       {produce(kafkatest.Action{CutBefore: true}), false},
		"cut after":        {produce(kafkatest.Action{CutAfter: true}), true},
		"not leader":       {produce(kafkatest.Action{NotLeader: true}), false},
		"answer too late":  {produce(kafkatest.Action{DelayAnswer: time.Hour}), true},
		"request too late": {produce(kafkatest.Action{Delay: time.Hour}), false},
		"requests paused":  {func(p *kafkatest.Proxy) { p.Pause(kafkatest.Requests) }, true},
		"answers paused":   {func(p *kafkatest.Proxy) { p.Pause(kafkatest.Answers) }, true},
		"refused":          {func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := kafkatest.Topic(t, brokers)
			p := kafkatest.NewProxy(t, brokers)
			config := sarama.NewConfig()
			config.Net.ReadTimeout, config.Producer.Retry.Max = time.Second, 0
			config.Producer.Return.Successes = true
			producer, err := sarama.NewSyncProducer(strings.Split(p.Addr(), ","), config)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			send := func(value string) (offset int64) {
				_, offset, _ = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
				return offset
			}
			before := int64(-1)
			for before < 0 { // it has a connection to the leader then
				before = send("before")
			}
			if test.fault(p); send("fault") >= 0 {
				t.Error("sent under the fault")
			}
			p.SetFault(nil)
			p.Resume()
			p.Refuse(false)
			want := []string{"before", "fault"}
			if !test.stored {
				kafkatest.Produce(t, p.Addr(), topic, "after")
				want[1] = "after"
			}
			expect(t, consume(t, brokers, topic, before), want...)
		})
	}
}

// Whatever is cut when: a consumer gets everything once, in order.
func TestProxyCutsEachConnection(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	p := kafkatest.NewProxy(t, brokers)
	cut := kafkatest.CutEach(1, 3, 8)
	var cuts []int
	p.SetFault(func(r kafkatest.Request) kafkatest.Action {
		action := cut(r)
		if action.CutBefore {
			cuts = append(cuts, r.N)
		}
		return action
	})
	consumer := consume(t, p.Addr(), topic, 0)
	for i := range 100 { // one after another, so that they come by many fetches
		kafkatest.Produce(t, brokers, topic, fmt.Sprint(i))
		expect(t, consumer, fmt.Sprint(i))
	}
	if p.SetFault(nil); len(cuts) == 0 || slices.Min(cuts) < 3 || slices.Max(cuts) > 8 {
		t.Errorf("connections were cut after %d requests", cuts)
	}
}
