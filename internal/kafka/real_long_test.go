//go:build long

package kafka_test

import (
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

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
		within(t, "^<nil>$", func() any { // a fresh cluster has no ids for producers yet
			var err error
			producer, err = sarama.NewSyncProducer(cluster.Brokers, config)
			return err
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

	within(t, "^13$", func() any {
		c, p := follow(t, cluster, topic, sarama.OffsetOldest, kafka.Following{ToEnd: true, Patience: patience})
		n := 0
		for range p.Messages() {
			n++
		}
		if err := c.Err(); err != nil {
			t.Fatalf("after %d records: %v", n, err)
		}
		time.Sleep(200 * time.Millisecond)
		return n
	})
}

// A partition that sends nothing of what it has is given up by a reader that is to end, though each
// session with it gets an answer.
func TestStalledPartitionIsGivenUp(t *testing.T) {
	t.Parallel()
	addr := fetched(t, 0, 2, batch(0, 1, 0, "a"), batch(1, 1, 0, "b")[:65])
	kafkatest.Produce(t, addr, "two", "a", "b")
	c, p := follow(t, at(t, addr), "two", sarama.OffsetOldest, kafka.Following{ToEnd: true, Patience: time.Second})
	expect(t, p, "a", end)
	wantError(t, c.Err(), "nothing arrives$")
}
