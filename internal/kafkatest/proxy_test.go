package kafkatest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// expect reads partition 0, which has these values from an offset on.
func expect(t *testing.T, brokers, topic string, from int64, values ...string) {
	t.Helper()
	cluster := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
	consumer := cluster.NewConsumer(t.Context(), "test", kafka.Following{})
	defer consumer.Close()
	messages := consumer.ConsumePartition(topic, 0, from).Messages()
	for _, want := range values {
		select {
		case m := <-messages:
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
	p.SetFault(func(r kafkatest.Request) (none kafkatest.Action) {
		if r.Key == kmsg.Produce {
			produced++
		}
		return none
	})
	for range 6 { // leaders are spread over the brokers
		topic := kafkatest.Topic(t, p.Addr())
		kafkatest.Recreate(t, p.Addr(), topic, "a", "b")
		expect(t, p.Addr(), topic, 0, "a", "b")
	}
	if p.SetFault(nil); produced < 6 {
		t.Errorf("%d requests of 6 producers went through the proxy", produced)
	}
}

// A fault on Produce is either before or after the broker has stored the record.
func TestProxyFaults(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	nothing := func(*kafkatest.Proxy) {}
	for name, test := range map[string]struct {
		produce kafkatest.Action // what happens to a Produce
		fault   func(*kafkatest.Proxy)
		stored  bool // in the end
	}{
		"cut before":       {kafkatest.Action{CutBefore: true}, nothing, false},
		"cut after":        {kafkatest.Action{CutAfter: true}, nothing, true},
		"not leader":       {kafkatest.Action{NotLeader: true}, nothing, false},
		"answer too late":  {kafkatest.Action{DelayAnswer: time.Hour}, nothing, true},
		"request too late": {kafkatest.Action{Delay: time.Hour}, nothing, false},
		"requests paused":  {kafkatest.Action{}, func(p *kafkatest.Proxy) { p.Pause(kafkatest.Requests) }, true},
		"answers paused":   {kafkatest.Action{}, func(p *kafkatest.Proxy) { p.Pause(kafkatest.Answers) }, true},
		"refused":          {kafkatest.Action{}, func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := kafkatest.Topic(t, brokers)
			p := kafkatest.NewProxy(t, brokers)
			kafkatest.Produce(t, p.Addr(), topic, "before")
			config := sarama.NewConfig()
			config.Net.ReadTimeout, config.Producer.Retry.Max = 2*time.Second, 0
			config.Producer.Return.Successes = true
			producer, err := sarama.NewSyncProducer(strings.Split(p.Addr(), ","), config)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			p.SetFault(func(r kafkatest.Request) (none kafkatest.Action) {
				if r.Key == kmsg.Produce {
					return test.produce
				}
				return none
			})
			test.fault(p)
			if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("fault")}); err == nil {
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
			expect(t, brokers, topic, 0, want...)
		})
	}
}
