//go:build long

package kafka_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// The end of a batch that compaction has emptied is found, and nothing after it is missed.
func TestEmptiedBatch(t *testing.T) {
	kafkaAt := realkafka.Start(t, realkafka.Options{Properties: map[string]string{
		"log.cleaner.backoff.ms": "100", "log.cleaner.dedupe.buffer.size": "2000000",
	}}).Addrs()
	cluster := at(t, kafkaAt)
	topic := kafkatest.TopicName(t, kafkaAt)
	if _, err := cluster.EnsureTopic(t.Context(), topic, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1048576",
		"min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "1000", "delete.retention.ms": "1000"}); err != nil {
		t.Fatal(err)
	}
	config := cluster.Config(t.Context(), "test")
	config.Producer.Idempotent = true // Kafka keeps the last batch of a producer that it knows, also emptied
	config.Producer.Retry.Max = 3
	config.Producer.MaxMessageBytes = 1 << 21
	send := func(valueSize int, keys ...string) { // by a producer of its own: the first record, and a batch of the others
		t.Helper()
		var producer sarama.SyncProducer
		within(t, "a producer", func() (ok bool) { // a fresh cluster has no ids for producers yet
			var err error
			producer, err = sarama.NewSyncProducer(cluster.Brokers, config)
			return err == nil
		})
		defer producer.Close()
		var all []*sarama.ProducerMessage
		for _, key := range keys {
			all = append(all, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(strings.Repeat("x", valueSize))})
		}
		if err := producer.SendMessages(all); err != nil {
			t.Fatal(err)
		}
	}
	segment := func(key string) { send(450_000, key+"1", key+"2") }
	segment("p")
	send(1, "a", "b", "c", "d", "e")
	segment("q")
	send(1, "a", "b", "c", "d", "e")
	segment("r")
	segment("s")

	read := func() (keys []string, err error) {
		reader := cluster.NewConsumer(t.Context(), "test", kafka.Following{ToEnd: true})
		defer reader.Close()
		p := reader.ConsumePartition(topic, 0, sarama.OffsetOldest)
		for deadline := time.After(patience); ; {
			select {
			case m, ok := <-p.Messages():
				if !ok {
					return keys, reader.Err()
				}
				keys = append(keys, string(m.Key))
			case <-deadline:
				return keys, errors.New("no end")
			}
		}
	}
	within(t, "compaction", func() bool {
		keys, err := read()
		if err != nil {
			t.Fatalf("after %d records: %v", len(keys), err)
		}
		time.Sleep(200 * time.Millisecond)
		return len(keys) == 8+5
	})
}

// A partition that sends nothing of what it has is given up by a reader that is to end, though each
// session with it gets an answer.
func TestStalledPartitionIsGivenUp(t *testing.T) {
	addr := fetched(t, func(int64) kmsg.FetchResponseTopicPartition {
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.HighWatermark, answer.RecordBatches = 2, append(batch(0, 1, 0, "a"), batch(1, 1, 0, "b")[:65]...)
		return answer
	})
	kafkatest.Produce(t, addr, "two", "a", "b")
	c := at(t, addr).NewConsumer(t.Context(), "test", kafka.Following{ToEnd: true, Patience: time.Second})
	defer c.Close()
	p := c.ConsumePartition("two", 0, sarama.OffsetOldest)
	expect(t, p, "a")
	ended(t, p)
	wantError(t, c.Err(), "nothing arrives$")
}
