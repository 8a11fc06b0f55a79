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

// What only a real Kafka shows.
func TestRealKafka(t *testing.T) {
	kafkaAt := realkafka.Start(t, realkafka.Options{}).Addrs()
	t.Run("compressed bombs", func(t *testing.T) { compressedBombs(t, kafkaAt) })
	t.Run("names that collide", func(t *testing.T) {
		first := kafkatest.TopicName(t, kafkaAt) + ".chat"
		if _, err := at(t, kafkaAt).EnsureTopic(t.Context(), first, nil); err != nil {
			t.Fatal(err)
		}
		_, err := at(t, kafkaAt).EnsureTopic(t.Context(), strings.Replace(first, ".", "_", 1), nil)
		wantError(t, err, `CREATE of topic "[^"]*_chat" is refused \(Kafka: .*collides with existing topic.*chat.*\)$`)
	})
}

// A record of a few kilobytes that becomes 64 MiB costs a reader no memory, and everybody reads the
// same sentence in its place. What is compressed and small is read as it was written.
func compressedBombs(t *testing.T, kafkaAt string) {
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
			s := read(t, cluster, topic)
			expect(t, s, want...)
			runtime.ReadMemStats(&after)
			// 16 MiB are decompressed into a buffer that doubles; a bomb that is decompressed whole takes 128 and more.
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 112 {
				t.Errorf("reading took %d MiB of memory", took)
			}
			within(t, "the end", func() bool { return s.Reached() == 4 })

			_, p := follow(t, cluster, topic, 1, kafka.Following{ToEnd: true})
			expect(t, p, append(want[1:], end)...)
		})
	}
}
