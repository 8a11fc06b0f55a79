package batch_test

import (
	"os"
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// BenchmarkSendMessage sends one record of 100 bytes after the other, as kafkawrite does with what a person types.
// kafkawrite/bench.sh compares it with batches.
func BenchmarkSendMessage(b *testing.B) {
	brokers := kafkatest.Broker(b)
	topic := kafkatest.Topic(b, brokers)
	cluster, err := kafka.FromEnv(os.Getenv)
	if err != nil {
		b.Fatal(err)
	}
	config := cluster.Config(b.Context(), "bench")
	config.Producer.Idempotent = true
	config.Producer.Retry.Max = 1
	producer, err := sarama.NewSyncProducer(strings.Split(brokers, ","), config)
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	line := sarama.StringEncoder(strings.Repeat("x", 100))
	for b.Loop() {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: line}); err != nil {
			b.Fatal(err)
		}
	}
}
