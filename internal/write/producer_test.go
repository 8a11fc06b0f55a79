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
	producer, err := write.NewSyncProducer(t.Context(), cluster, topic, 0, &write.Report{Say: func(string, ...any) {}})
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

// TestFaults sends single messages, and batches several of which are under way, while connections and
// answers fail. Every record must be in the topic once, in order, up to one that is too large. The topic
// takes about 90 records in a batch, so that many batches are under way.
func TestFaults(t *testing.T) {
	lots := rand.New(rand.NewPCG(1, 1))
	actions := []kafkatest.Action{{CutBefore: true}, {CutAfter: true}, {NotLeader: true}}
	for name, fault := range map[string]func(kafkatest.Request) kafkatest.Action{
		"one request in four": func(r kafkatest.Request) kafkatest.Action {
			if r.Key != kmsg.Produce || lots.IntN(4) > 0 {
				return kafkatest.Action{}
			}
			return actions[lots.IntN(len(actions))]
		},
		"any connection": func(r kafkatest.Request) kafkatest.Action {
			return kafkatest.Action{CutBefore: r.N >= 3+5*r.Conn%7} // after 3 to 9 requests
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.TopicName(t, brokers)
			cluster := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
			if _, err := cluster.EnsureTopic(t.Context(), topic, map[string]string{"max.message.bytes": "1000"}); err != nil {
				t.Fatal(err)
			}
			proxy := kafkatest.NewProxy(t, brokers)
			producer := newProducer(t, proxy.Addr(), topic)
			proxy.SetFault(fault)
			sent := 0
			for _, size := range []int{1, 1, 49, 1, 1500, 1, 1, 2, 1000, 1} {
				some, err := messages(topic, sent, sent+size), error(nil)
				if size > 1 {
					err = producer.SendMessages(some)
				} else if _, _, err = producer.SendMessage(some[0]); some[0].Offset != int64(sent) {
					t.Errorf("record %d is said to be at offset %d", sent, some[0].Offset)
				}
				if err != nil {
					t.Fatalf("after %d: %v", sent, err)
				}
				sent += size
			}
			some := messages(topic, sent, sent+3)
			some[1].Value = sarama.StringEncoder(strings.Repeat("x", 2000))
			failed, ok := producer.SendMessages(some).(sarama.ProducerErrors)
			if !ok || len(failed) != 2 || failed[0].Msg != some[1] || !errors.Is(failed[0].Err, sarama.ErrMessageSizeTooLarge) ||
				!strings.Contains(failed[0].Err.Error(), "larger than its max.message.bytes") {
				t.Errorf("a record that is too large: %v, want it and the one behind it", failed)
			}
			clitest.WantStored(t, brokers, topic, clitest.Numbers(0, sent+1))
		})
	}
}

// TestOutOfOrder is what a broker answers that was started again, and has no ids yet, or has lost what it had: the
// last batch that it knows says that those before are stored, and if it knows none, a new id is asked for.
func TestOutOfOrder(t *testing.T) {
	const ok, outOfOrder, passing = sarama.ErrNoError, sarama.ErrOutOfOrderSequenceNumber, sarama.ErrNotLeaderForPartition
	for name, c := range map[string]struct {
		answers       []sarama.KError // the last one is repeated
		requests, ids int
	}{
		"knows the last one":   {[]sarama.KError{ok, outOfOrder, outOfOrder, ok}, 4, 2},
		"knows the second one": {[]sarama.KError{ok, outOfOrder, ok, passing, ok}, 5, 2},
		"knows none":           {[]sarama.KError{ok, outOfOrder, outOfOrder, outOfOrder, passing, ok}, 8, 3},
		"did not take one":     {[]sarama.KError{ok, passing, outOfOrder, outOfOrder, ok}, 7, 2},
		"did not say of one":   {[]sarama.KError{ok, outOfOrder, outOfOrder, passing, ok}, 7, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := sarama.NewMockBroker(t, 1)
			t.Cleanup(broker.Close)
			var answers []any
			for _, err := range c.answers {
				answers = append(answers, sarama.NewMockProduceResponse(t).SetVersion(3).SetError("topic", 0, err))
			}
			broker.SetHandlerByMap(map[string]sarama.MockResponse{
				"MetadataRequest":       sarama.NewMockMetadataResponse(t).SetBroker(broker.Addr(), 1).SetLeader("topic", 0, 1),
				"InitProducerIDRequest": sarama.NewMockSequence(&sarama.InitProducerIDResponse{Err: passing}, &sarama.InitProducerIDResponse{ProducerID: 7}),
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
			sent := make(map[string]int)
			for _, r := range broker.History() {
				sent[fmt.Sprintf("%T", r.Request)]++
			}
			if sent["*sarama.ProduceRequest"] != c.requests || sent["*sarama.InitProducerIDRequest"] != c.ids {
				t.Errorf("sent are %v, want %d batches, and to ask for an id %d times", sent, c.requests, c.ids)
			}
		})
	}
}

// BenchmarkSendMessage sends one record of 100 bytes after the other, as a person types. kafkawrite/bench.sh compares it with batches.
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
