package broker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
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

// The broker may run for months: neither the chat's topic nor one that a client
// makes, whatever the client asks for, may keep all that is written to it.
func TestTopicsAreBounded(t *testing.T) {
	const bound = 32 << 20
	b := start(t, broker.Config{Topic: "chat"})
	admin, err := sarama.NewClusterAdmin([]string{b.Addr()}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	forever := "-1"
	if err := admin.CreateTopic("other", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{
		"retention.bytes": &forever, "segment.bytes": &forever, "retention.ms": &forever}}, false); err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateTopic("wide", &sarama.TopicDetail{NumPartitions: 1 << 30, ReplicationFactor: 1}, false); err == nil {
		t.Error("a topic with a billion partitions was made")
	}
	client := newClient(t, b.Addr())
	value := strings.Repeat("x", 512<<10)
	for _, topic := range []string{"chat", "other"} {
		produce(t, b.Addr(), newConfig(), topic, slices.Repeat([]string{value}, 3*bound/len(value))...)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			oldest, newest := offset(t, client, topic, sarama.OffsetOldest), offset(t, client, topic, sarama.OffsetNewest)
			if newest != 3*bound/int64(len(value)) {
				t.Fatalf("%s ends at %d", topic, newest)
			}
			if kept := (newest - oldest) * int64(len(value)); kept <= bound {
				if kept < bound/2 {
					t.Errorf("%s keeps only %d bytes", topic, kept)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s still has records %d to %d", topic, oldest, newest)
			}
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if limit := uint64(2*bound + 2*2*bound/8 + 16<<20); m.HeapAlloc > limit {
		t.Errorf("%d MB of heap for two topics, want less than %d MB", m.HeapAlloc>>20, limit>>20)
	}
}

func TestBoundsHoldAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, broker.Config{DataDir: dir})
	admin, err := sarama.NewClusterAdmin([]string{first.Addr()}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	small := "65536"
	if err := admin.CreateTopic("chat", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{
		"retention.bytes": &small, "segment.bytes": &small}}, false); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, broker.Config{DataDir: dir, Topic: "chat"})
	produce(t, again.Addr(), newConfig(), "chat", slices.Repeat([]string{strings.Repeat("x", 32<<10)}, 20)...)
	client := newClient(t, again.Addr())
	for deadline := time.Now().Add(10 * time.Second); offset(t, client, "chat", sarama.OffsetOldest) < 18; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a topic that was loaded from disk keeps everything")
		}
	}
}

func TestManyIdleConnections(t *testing.T) {
	b := start(t, broker.Config{Topic: "chat"})
	client := newClient(t, b.Addr())
	offset(t, client, "chat", sarama.OffsetNewest)
	before := runtime.NumGoroutine()
	for range 2000 {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	produce(t, b.Addr(), newConfig(), "chat", "a newcomer")
	if n := offset(t, client, "chat", sarama.OffsetNewest); n != 1 {
		t.Errorf("the topic ends at %d", n)
	}
	if n := runtime.NumGoroutine() - before; n > 1000 {
		t.Errorf("2000 idle connections hold %d goroutines", n)
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

func TestDataDirKeepsRecords(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "here")
	var want []string
	for i := range 3 {
		b := start(t, broker.Config{Topic: "chat", DataDir: dir})
		want = append(want, fmt.Sprint("run ", i))
		produce(t, b.Addr(), newConfig(), "chat", want[i])
		if got := consume(t, b.Addr(), "chat", len(want)); !slices.Equal(got, want) {
			t.Errorf("run %d has %q", i, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataDirIsForOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, broker.Config{DataDir: dir})
	_, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second broker in the same directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, broker.Config{DataDir: dir})
}

func TestBrokenDataDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	broken := filepath.Join(t.TempDir(), "broken")
	b := start(t, broker.Config{Topic: "chat", DataDir: broken})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(broken, "topics.json")} {
		if err := os.WriteFile(path, []byte("no JSON"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), broken} {
		b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", DataDir: dir, Topic: "chat"})
		if err == nil {
			b.Close()
			t.Errorf("a broker started in %s", dir)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not name %s: %v", dir, err)
		}
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
