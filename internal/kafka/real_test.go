package kafka_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// A record of a few kilobytes that becomes 64 MiB costs a reader no memory, and everybody reads the
// same sentence in its place. What is compressed and small is read as it was written.
func TestCompressedBombs(t *testing.T) {
	kafkaAt := realkafka.Start(t, realkafka.Options{}).Addrs()
	codecs := map[string]struct {
		codec sarama.CompressionCodec
		size  int // of the bomb's text; snappy compresses to a 21st at best, and Kafka takes 1 MiB
	}{
		"gzip":   {sarama.CompressionGZIP, 64 << 20},
		"snappy": {sarama.CompressionSnappy, 17 << 20},
		"lz4":    {sarama.CompressionLZ4, 64 << 20},
		"zstd":   {sarama.CompressionZSTD, 64 << 20},
	}
	for name, c := range codecs {
		t.Run(name, func(t *testing.T) {
			cluster := at(t, kafkaAt)
			topic := kafkatest.Topic(t, kafkaAt)
			config := cluster.Config(t.Context(), "test")
			config.Producer.Compression = c.codec
			config.Producer.MaxMessageBytes = 1 << 30
			config.Producer.Timeout, config.Net.ReadTimeout = 50*time.Second, time.Minute
			producer, err := sarama.NewSyncProducer(cluster.Brokers, config)
			if err != nil {
				t.Fatal(err)
			}
			defer producer.Close()
			for _, value := range []string{"before", strings.Repeat("a", c.size), strings.Repeat("b", 1000), "after"} {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{"before", "(offset 1 was left out: more than 16 MiB when decompressed)", strings.Repeat("b", 1000), "after"}

			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s, p := open(t, cluster, topic)
			expect(t, p, want...)
			runtime.ReadMemStats(&after)
			// 16 MiB are decompressed into a buffer that doubles.
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 80 {
				t.Errorf("reading took %d MiB of memory", took)
			}
			within(t, "the end", func() bool { return s.Reached(0) == 4 })

			reader, err := cluster.NewConsumer(t.Context(), "test", topic, kafka.Following{ToEnd: true})
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			follow, err := reader.ConsumePartition(topic, 0, 1)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, follow, want[1:]...)
			ended(t, follow)
			if reader.Err() != nil {
				t.Error(reader.Err())
			}
		})
	}
}
