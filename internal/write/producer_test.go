package write_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/write"
)

// patience is for what takes a healthy Kafka milliseconds, on a machine that is busy with other tests.
const patience = 60 * time.Second

// newProducer returns a producer for partition 0 of topic.
func newProducer(t testing.TB, ctx context.Context, brokers, topic string) sarama.SyncProducer {
	t.Helper()
	cluster := &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
	producer, err := write.NewSyncProducer(ctx, cluster, topic, 0, func(reason error) { t.Logf("waiting: %v", reason) })
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

// values reads partition 0 of topic up to its end.
func values(t *testing.T, brokers, topic string) []string {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer partition.Close()
	var got []string
	for offset := int64(-1); offset < end-1; {
		select {
		case m := <-partition.Messages():
			got = append(got, string(m.Value))
			offset = m.Offset
		case <-time.After(patience):
			t.Fatalf("no record after offset %d, the end is %d", offset, end)
		}
	}
	return got
}

// wantNumbers checks that got are the numbers from 0 to n-1.
func wantNumbers(t *testing.T, got []string, n int) {
	t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	if slices.Equal(got, want) {
		return
	}
	seen := make(map[string]int)
	for _, v := range got {
		seen[v]++
	}
	lost, twice := 0, 0
	for _, v := range want {
		if seen[v] == 0 {
			lost++
		}
		if seen[v] > 1 {
			twice++
		}
	}
	t.Errorf("%d records, want %d: %d lost, %d more than once, or else in another order", len(got), n, lost, twice)
}

// TestFaults sends batches while connections and answers fail. Every record must be in the topic once, in order.
func TestFaults(t *testing.T) {
	produce := func(then func(n int) kafkatest.Action) func() func(kafkatest.Request) kafkatest.Action {
		return func() func(kafkatest.Request) kafkatest.Action {
			n := 0 // produce requests until now
			return func(r kafkatest.Request) kafkatest.Action {
				if r.Key != kmsg.Produce {
					return kafkatest.Action{}
				}
				n++
				return then(n)
			}
		}
	}
	for name, fault := range map[string]func() func(kafkatest.Request) kafkatest.Action{
		"none": produce(func(n int) kafkatest.Action { return kafkatest.Action{} }),
		"requests lost": produce(func(n int) kafkatest.Action {
			return kafkatest.Action{CutBefore: n%3 == 0}
		}),
		"answers lost": produce(func(n int) kafkatest.Action {
			return kafkatest.Action{CutAfter: n%3 == 0}
		}),
		"answers lost thrice running": produce(func(n int) kafkatest.Action {
			return kafkatest.Action{CutAfter: n%4 != 0}
		}),
		"not leader": produce(func(n int) kafkatest.Action {
			return kafkatest.Action{NotLeader: n%3 == 0}
		}),
		"all of them": produce(func(n int) kafkatest.Action {
			return kafkatest.Action{CutBefore: n%5 == 1, CutAfter: n%5 == 2, NotLeader: n%5 == 3}
		}),
		"any connection": func() func(kafkatest.Request) kafkatest.Action { return kafkatest.CutEach(1, 3, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			producer := newProducer(t, t.Context(), proxy.Addr(), topic)
			proxy.SetFault(fault())
			const size, count = 50, 20
			for i := range count {
				if err := producer.SendMessages(messages(topic, i*size, (i+1)*size)); err != nil {
					t.Fatalf("batch %d: %v", i, err)
				}
			}
			wantNumbers(t, values(t, brokers, topic), size*count)
		})
	}
}

// TestGivesUp ends the context while nothing is acknowledged.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	producer := newProducer(t, ctx, proxy.Addr(), topic)
	if err := producer.SendMessages(messages(topic, 0, 10)); err != nil {
		t.Fatal(err)
	}
	proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
		if r.Key == kmsg.Produce {
			cancel()
			return kafkatest.Action{CutBefore: true}
		}
		return kafkatest.Action{}
	})
	err := producer.SendMessages(messages(topic, 10, 20))
	failed, ok := err.(sarama.ProducerErrors)
	if !ok || len(failed) != 10 {
		t.Fatalf("the error is %v (%T), want the ten messages", err, err)
	}
	wantNumbers(t, values(t, brokers, topic), 10)
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
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{
		NumPartitions:     1,
		ReplicationFactor: 1,
		ConfigEntries:     map[string]*string{"max.message.bytes": &limit},
	}, false); err != nil {
		t.Fatal(err)
	}

	producer := newProducer(t, t.Context(), brokers, topic)
	if err := producer.SendMessages(messages(topic, 0, 1000)); err != nil {
		t.Fatal(err)
	}
	some := messages(topic, 1000, 1003)
	some[1].Value = sarama.StringEncoder(strings.Repeat("x", 2000))
	failed, ok := producer.SendMessages(some).(sarama.ProducerErrors)
	if !ok || len(failed) != 2 || failed[0].Msg != some[1] || !errors.Is(failed[0].Err, sarama.ErrMessageSizeTooLarge) {
		t.Errorf("a record that is too large: %v, want it and the one behind it", failed)
	}
	wantNumbers(t, values(t, brokers, topic), 1001)
}
