package write_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
	producer, err := write.NewSyncProducer(t.Context(), cluster, topic, 0, &write.Report{Say: t.Logf})
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

// onProduce lets a fault that is drawn by lot decide about produce requests.
func onProduce(faults ...kafkatest.Action) func(kafkatest.Request) kafkatest.Action {
	lots := rand.New(rand.NewPCG(1, 1))
	return func(r kafkatest.Request) kafkatest.Action {
		if n := lots.IntN(4 * len(faults)); r.Key == kmsg.Produce && n < len(faults) {
			return faults[n]
		}
		return kafkatest.Action{}
	}
}

// smallTopic makes a topic that takes about 90 records in a batch, so that many batches are under way.
func smallTopic(t *testing.T, brokers string) string {
	t.Helper()
	cluster, topic := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}, kafkatest.TopicName(t, brokers)
	if _, err := cluster.EnsureTopic(t.Context(), topic, map[string]string{"max.message.bytes": "1000"}); err != nil {
		t.Fatal(err)
	}
	return topic
}

// TestFaults sends single messages, and batches several of which are under way, while connections and
// answers fail. Every record must be in the topic once, in order.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(kafkatest.Request) kafkatest.Action{
		"answers lost":   onProduce(kafkatest.Action{CutAfter: true}),
		"all of them":    onProduce(kafkatest.Action{CutBefore: true}, kafkatest.Action{CutAfter: true}, kafkatest.Action{NotLeader: true}),
		"any connection": kafkatest.CutEach(1, 3, 9),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := smallTopic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			producer := newProducer(t, proxy.Addr(), topic)
			proxy.SetFault(fault)
			sent := 0
			for _, size := range []int{1, 1, 49, 1, 1500, 1, 1, 2, 1000, 1} {
				some := messages(topic, sent, sent+size)
				err := error(nil)
				if size == 1 {
					var offset int64
					if _, offset, err = producer.SendMessage(some[0]); offset != int64(sent) {
						t.Errorf("record %d is said to be at offset %d", sent, offset)
					}
				} else {
					err = producer.SendMessages(some)
				}
				if err != nil {
					t.Fatalf("after %d: %v", sent, err)
				}
				sent += size
			}
			clitest.WantStored(t, brokers, topic, clitest.Numbers(0, sent))
		})
	}
}

// TestTooLarge writes to a topic that takes fewer bytes at a time than a batch has.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := smallTopic(t, brokers)
	producer := newProducer(t, brokers, topic)
	if err := producer.SendMessages(messages(topic, 0, 1000)); err != nil {
		t.Fatal(err)
	}
	some := messages(topic, 1000, 1003)
	some[1].Value = sarama.StringEncoder(strings.Repeat("x", 2000))
	failed, ok := producer.SendMessages(some).(sarama.ProducerErrors)
	if !ok || len(failed) != 2 || failed[0].Msg != some[1] || !errors.Is(failed[0].Err, sarama.ErrMessageSizeTooLarge) ||
		!strings.Contains(failed[0].Err.Error(), "larger than its max.message.bytes") {
		t.Errorf("a record that is too large: %v, want it and the one behind it", failed)
	}
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, 1001))
}

// TestOutOfOrder is what a broker answers that was started again, or has lost what it had: the last
// batch that it knows says that those before are stored, and if it knows none, a new id is asked for.
func TestOutOfOrder(t *testing.T) {
	const ok, outOfOrder, passing = sarama.ErrNoError, sarama.ErrOutOfOrderSequenceNumber, sarama.ErrNotLeaderForPartition
	for name, c := range map[string]struct {
		answers       []sarama.KError // the last one is repeated
		requests, ids int
	}{
		"knows the last one":   {[]sarama.KError{ok, outOfOrder, outOfOrder, ok}, 4, 1},
		"knows the second one": {[]sarama.KError{ok, outOfOrder, ok, passing, ok}, 5, 1},
		"knows none":           {[]sarama.KError{ok, outOfOrder, outOfOrder, outOfOrder, passing, ok}, 8, 2},
		"did not take one":     {[]sarama.KError{ok, passing, outOfOrder, outOfOrder, ok}, 7, 1},
		"did not say of one":   {[]sarama.KError{ok, outOfOrder, outOfOrder, passing, ok}, 7, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := sarama.NewMockBroker(t, 1)
			t.Cleanup(broker.Close)
			var answers []any
			for _, err := range c.answers {
				blocks := map[string]map[int32]*sarama.ProduceResponseBlock{"topic": {0: {Err: err}}}
				answers = append(answers, &sarama.ProduceResponse{Version: 3, Blocks: blocks})
			}
			broker.SetHandlerByMap(map[string]sarama.MockResponse{
				"MetadataRequest":       sarama.NewMockMetadataResponse(t).SetBroker(broker.Addr(), 1).SetLeader("topic", 0, 1),
				"InitProducerIDRequest": sarama.NewMockWrapper(&sarama.InitProducerIDResponse{ProducerID: 7}),
				"ProduceRequest":        sarama.NewMockSequence(answers...),
			})
			producer := newProducer(t, broker.Addr(), "topic")
			some := messages("topic", 0, 4)
			for _, m := range some[1:] {
				m.Value = sarama.StringEncoder(strings.Repeat("x", 600_000)) // a batch each
			}
			if err := errors.Join(producer.SendMessages(some[:1]), producer.SendMessages(some[1:])); err != nil {
				t.Fatal(err)
			}
			requests, ids := 0, 0
			for _, r := range broker.History() {
				switch r.Request.(type) {
				case *sarama.ProduceRequest:
					requests++
				case *sarama.InitProducerIDRequest:
					ids++
				}
			}
			if requests != c.requests || ids != c.ids {
				t.Errorf("%d batches were sent under %d ids, want %d under %d", requests, ids, c.requests, c.ids)
			}
		})
	}
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
