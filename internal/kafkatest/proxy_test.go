package kafkatest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// Clients are told of brokers that they did not start with, and reach those through the proxy too.
func TestProxyInFrontOfThreeBrokers(t *testing.T) {
	t.Parallel()
	brokers, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(brokers.Close)
	p := kafkatest.NewProxy(t, brokers.ListenAddrs()[0])
	seen := make(map[kmsg.Key]int)
	p.SetFault(func(r kafkatest.Request) (none kafkatest.Action) {
		seen[r.Key]++
		return none
	})
	for range 6 { // leaders are spread over the brokers
		topic := kafkatest.Topic(t, p.Addr())
		kafkatest.Recreate(t, p.Addr(), topic, "a", "b")
		clitest.WantStored(t, p.Addr(), topic, "a\nb\n")
	}
	if p.SetFault(nil); seen[kmsg.Produce] < 6 || seen[kmsg.Fetch] < 6 {
		t.Errorf("of 6 producers and 6 readers these requests went through the proxy: %v", seen)
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
			config := sarama.NewConfig()
			config.Net.ReadTimeout, config.Producer.Retry.Max, config.Producer.Return.Successes = 2*time.Second, 0, true
			producer, err := sarama.NewSyncProducer(strings.Split(p.Addr(), ","), config)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			send := func(text string) error {
				_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(text)})
				return err
			}
			for send("before") != nil { // one that is given up may be stored late
			}
			p.SetFault(func(r kafkatest.Request) (none kafkatest.Action) {
				if r.Key == kmsg.Produce {
					return test.produce
				}
				return none
			})
			if test.fault(p); send("fault") == nil {
				t.Error("sent under the fault")
			}
			p.SetFault(nil)
			p.Resume()
			p.Refuse(false)
			want := "fault\n"
			if !test.stored {
				kafkatest.Produce(t, p.Addr(), topic, "after")
				want = "after\n"
			}
			stored := func() string { return strings.ReplaceAll(clitest.Stored(t, brokers, topic), "before\n", "") }
			if !clitest.Eventually(stored, "^"+want+"$") {
				t.Errorf("the topic has %q, want %q", stored(), want)
			}
		})
	}
}
