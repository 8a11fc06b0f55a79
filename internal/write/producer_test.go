package write_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/write"
)

// newProducer returns a producer for partition 0 of topic.
func newProducer(t testing.TB, brokers, topic string) sarama.SyncProducer {
	t.Helper()
	cluster := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
	producer, err := write.NewSyncProducer(t.Context(), cluster, topic, 0, func(reason error) { t.Logf("waiting: %v", reason) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close() })
	return producer
}

// messages returns messages for topic, with values that are their numbers.
func messages(topic string, from, to int) []*sarama.ProducerMessage {
	var all []*sarama.ProducerMessage
	for i := from; i < to; i++ {
		all = append(all, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i))})
	}
	return all
}

// onProduce lets fault decide about produce requests, of which it is told the number, from 1.
func onProduce(fault func(n int) kafkatest.Action) func(kafkatest.Request) kafkatest.Action {
	n := 0
	return func(r kafkatest.Request) kafkatest.Action {
		if r.Key != kmsg.Produce {
			return kafkatest.Action{}
		}
		n++
		return fault(n)
	}
}

// TestFaults sends batches and single messages while connections and answers fail. Every record must
// be in the topic once, in order.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(kafkatest.Request) kafkatest.Action{
		"requests lost":               onProduce(func(n int) kafkatest.Action { return kafkatest.Action{CutBefore: n%3 == 0} }),
		"answers lost":                onProduce(func(n int) kafkatest.Action { return kafkatest.Action{CutAfter: n%3 == 0} }),
		"answers lost thrice running": onProduce(func(n int) kafkatest.Action { return kafkatest.Action{CutAfter: n%4 != 0} }),
		"not leader":                  onProduce(func(n int) kafkatest.Action { return kafkatest.Action{NotLeader: n%3 == 0} }),
		"all of them": onProduce(func(n int) kafkatest.Action {
			return kafkatest.Action{CutBefore: n%5 == 1, CutAfter: n%5 == 2, NotLeader: n%5 == 3}
		}),
		"any connection": kafkatest.CutEach(1, 3, 9),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			producer := newProducer(t, proxy.Addr(), topic)
			proxy.SetFault(fault)
			const n = 500
			for sent, size := 0, 1; sent < n; sent, size = sent+size, 50-size { // 1 and 49 by turns
				some := messages(topic, sent, sent+size)
				err := error(nil)
				if size == 1 {
					_, _, err = producer.SendMessage(some[0])
				} else {
					err = producer.SendMessages(some)
				}
				if err != nil {
					t.Fatalf("after %d: %v", sent, err)
				}
			}
			clitest.WantStored(t, brokers, topic, clitest.Numbers(0, n))
		})
	}
}

// TestTooLarge writes to a topic that takes fewer bytes at a time than a batch has.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic, limit := kafkatest.TopicName(t, brokers), "1000"
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &limit}}
	if err := admin.CreateTopic(topic, detail, false); err != nil {
		t.Fatal(err)
	}
	producer := newProducer(t, brokers, topic)
	if err := producer.SendMessages(messages(topic, 0, 1000)); err != nil {
		t.Fatal(err)
	}
	some := messages(topic, 1000, 1003)
	some[1].Value = sarama.StringEncoder(strings.Repeat("x", 2000))
	failed, ok := producer.SendMessages(some).(sarama.ProducerErrors)
	if !ok || len(failed) != 2 || failed[0].Msg != some[1] || !errors.Is(failed[0].Err, sarama.ErrMessageSizeTooLarge) {
		t.Errorf("a record that is too large: %v, want it and the one behind it", failed)
	}
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, 1001))
}

// BenchmarkSendMessage sends one record of 100 bytes after the other, as kafkawrite does with what a
// person types. kafkawrite/bench.sh compares it with batches.
func BenchmarkSendMessage(b *testing.B) {
	brokers := kafkatest.Broker(b)
	topic := kafkatest.Topic(b, brokers)
	producer := newProducer(b, brokers, topic)
	line := sarama.StringEncoder(strings.Repeat("x", 100))
	for b.Loop() {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: line}); err != nil {
			b.Fatal(err)
		}
	}
}
