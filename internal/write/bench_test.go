package write_test

import (
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
)

// BenchmarkSendMessage sends one record of 100 bytes after the other, as kafkawrite does with what a person types.
// kafkawrite/bench.sh compares it with batches.
func BenchmarkSendMessage(b *testing.B) {
	brokers := kafkatest.Broker(b)
	topic := kafkatest.Topic(b, brokers)
	producer := newProducer(b, b.Context(), brokers, topic)
	line := sarama.StringEncoder(strings.Repeat("x", 100))
	for b.Loop() {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: line}); err != nil {
			b.Fatal(err)
		}
	}
}
