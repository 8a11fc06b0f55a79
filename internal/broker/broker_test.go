package broker_test

import (
	"bytes"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"go.uber.org/goleak"

	"kafkachat/internal/broker"
)

func start(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	return config
}

// produce appends values to partition 0, one batch each.
func produce(t *testing.T, addr string, config *sarama.Config, topic string, values ...string) {
	t.Helper()
	producer, err := sarama.NewSyncProducer([]string{addr}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, v := range values {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatal(err)
		}
	}
}

// consume reads n records of partition 0 from its start.
func consume(t *testing.T, addr, topic string, n int) (values []string) {
	t.Helper()
	consumer, err := sarama.NewConsumer([]string{addr}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer partition.Close()
	for len(values) < n {
		select {
		case m := <-partition.Messages():
			values = append(values, string(m.Value))
		case <-time.After(10 * time.Second):
			t.Fatalf("%d records of %d came", len(values), n)
		}
	}
	return values
}

func newClient(t *testing.T, addr string) sarama.Client {
	t.Helper()
	client, err := sarama.NewClient([]string{addr}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func offset(t *testing.T, client sarama.Client, topic string, at int64) int64 {
	t.Helper()
	o, err := client.GetOffset(topic, 0, at)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestProducersOfAllKinds(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*sarama.Config){
		"plain": func(*sarama.Config) {},
		"idempotent": func(c *sarama.Config) {
			c.Producer.Idempotent, c.Producer.Retry.Max, c.Net.MaxOpenRequests = true, 1, 1
		},
		"gzip":   func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionGZIP },
		"snappy": func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionSnappy },
		"lz4":    func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionLZ4 },
		"zstd":   func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionZSTD },
		"old":    func(c *sarama.Config) { c.Version = sarama.V2_1_0_0 },
		"new":    func(c *sarama.Config) { c.Version = sarama.MaxVersion },
	}
	want := []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, broker.Config{Topic: "chat"})
			config := newConfig()
			config.Producer.MaxMessageBytes = 1_000_000
			set(config)
			produce(t, b.Addr(), config, "chat", want...)
			if got := consume(t, b.Addr(), "chat", len(want)); !slices.Equal(got, want) {
				t.Errorf("other records came back")
			}
		})
	}
}

func TestRecordsAreFoundByTime(t *testing.T) {
	t.Parallel()
	b := start(t, broker.Config{Topic: "chat"})
	produce(t, b.Addr(), newConfig(), "chat", "1", "2")
	time.Sleep(2 * time.Millisecond)
	now := time.Now()
	time.Sleep(2 * time.Millisecond)
	produce(t, b.Addr(), newConfig(), "chat", "3")
	client := newClient(t, b.Addr())
	for at, want := range map[int64]int64{0: 0, now.UnixMilli(): 2, now.UnixMilli() + 3_600_000: -1} {
		if got := offset(t, client, "chat", at); got != want {
			t.Errorf("the first record at or after %d has offset %d, want %d", at, got, want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := start(t, broker.Config{Topic: "chat"})
	b := start(t, broker.Config{Topic: "chat", Addr: a.Addr(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if a.Addr() == b.Addr() {
		t.Fatalf("two brokers at %s", a.Addr())
	}
	if strings.Count(log.String(), b.Addr()) != 1 {
		t.Errorf("the log does not name %s: %s", b.Addr(), &log)
	}
	produce(t, b.Addr(), newConfig(), "chat", "b")
	if n := offset(t, newClient(t, a.Addr()), "chat", sarama.OffsetNewest); n != 0 {
		t.Errorf("what was sent to one broker is on the other")
	}
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, broker.Config{Topic: "chat", DataDir: dir})
		for range 50 {
			conn, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if conn, err := net.Dial("tcp", b.Addr()); err == nil {
			conn.Close()
			t.Errorf("somebody still listens at %s", b.Addr())
		}
	}
}
