package broker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	return config
}

// produce appends values to partition 0 by sarama, one batch each.
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

// consume reads n records of partition 0 by sarama, from its start.
func consume(t *testing.T, addr, topic string, n int) (values []string) {
	t.Helper()
	consumer, err := sarama.NewConsumer([]string{addr}, saramaConfig())
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
		case <-time.After(patience):
			t.Fatalf("%d records of %d came", len(values), n)
		}
	}
	return values
}

// someValues are what a producer sends, at most 1,000,000 bytes a batch.
func someValues() []string {
	return []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)}
}

func TestSarama(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*sarama.Config){
		"plain": func(*sarama.Config) {},
		"idempotent": func(c *sarama.Config) {
			c.Producer.Idempotent, c.Producer.Retry.Max, c.Net.MaxOpenRequests = true, 1, 1
		},
		"gzip":            func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionGZIP },
		"snappy":          func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionSnappy },
		"lz4":             func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionLZ4 },
		"zstd":            func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionZSTD },
		"old":             func(c *sarama.Config) { c.Version = sarama.V2_1_0_0 },
		"new":             func(c *sarama.Config) { c.Version = sarama.MaxVersion },
		"without answers": func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.NoResponse },
	}
	b, want := start(t, Config{}), someValues()
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := strings.ReplaceAll(name, " ", "-")
			if err := dial(t, b.Addr()).create(topic, 1); err != nil {
				t.Fatal(err)
			}
			config := saramaConfig()
			set(config)
			produce(t, b.Addr(), config, topic, want...)
			if got := consume(t, b.Addr(), topic, len(want)); !slices.Equal(got, want) {
				t.Error("other records came back")
			}
		})
	}
}

// franz-go compresses and is idempotent by default, sends several batches at a time, and asks for
// fetch sessions.
func TestFranz(t *testing.T) {
	t.Parallel()
	b := start(t, Config{Topic: "chat"})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.DefaultProduceTopic("chat"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"chat": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var want, got []string
	var sent []*kgo.Record
	for i := range 3000 {
		want = append(want, fmt.Sprint(i, strings.Repeat(" text", i%300)))
		sent = append(sent, kgo.StringRecord(want[i]))
	}
	if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for len(got) < len(want) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(got), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if !slices.Equal(got, want) {
		t.Error("other records came back")
	}
}

func TestRecordsAreFoundByTime(t *testing.T) {
	t.Parallel()
	b := start(t, Config{Topic: "chat"})
	produce(t, b.Addr(), saramaConfig(), "chat", "1", "2")
	time.Sleep(2 * time.Millisecond)
	now := time.Now()
	time.Sleep(2 * time.Millisecond)
	produce(t, b.Addr(), saramaConfig(), "chat", "3")
	w := dial(t, b.Addr())
	for at, want := range map[int64]int64{0: 0, now.UnixMilli(): 2, now.UnixMilli() + 3_600_000: -1} {
		if got := w.offset("chat", at); got != want {
			t.Errorf("the first record at or after %d has offset %d, want %d", at, got, want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := start(t, Config{Topic: "chat"})
	b := start(t, Config{Topic: "chat", Addr: a.Addr(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if a.Addr() == b.Addr() {
		t.Fatalf("two brokers at %s", a.Addr())
	}
	if taken, _, _ := strings.Cut(log.String(), "\n"); !strings.Contains(taken, b.Addr()) {
		t.Errorf("the log does not name %s: %s", b.Addr(), &log)
	}
	produce(t, b.Addr(), saramaConfig(), "chat", "b") // which asks b where b is
	if n := dial(t, a.Addr()).newest("chat"); n != 0 {
		t.Errorf("what was sent to one broker is on the other")
	}
	if _, err := Start(Config{Addr: "192.0.2.1:9092"}); err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("an address of another machine: %v", err)
	}
}

// Close waits for nobody: not for who reads no answer, not for a fetch that waits, and not for half
// a request.
func TestCloseEndsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		for range 30 {
			conn, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
		}
		w := dial(t, b.Addr())
		w.newest("chat") // so that it is known to be served
		wait := fetchRequest("chat", 0)
		wait.MinBytes, wait.MaxWaitMillis = 1, 60_000
		wait.SetVersion(11)
		w.Write(kmsg.NewRequestFormatter().AppendRequest(nil, wait, 1))
		begin := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("Close took %v", took)
		}
		if conn, err := net.Dial("tcp", b.Addr()); err == nil {
			conn.Close()
			t.Errorf("somebody still listens at %s", b.Addr())
		}
		w.Close()
	}
}

// Java's zstd has a window of 2 MB in the header of a batch that is small.
func TestZstdWithALargeWindow(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	z.Write(records("hello"))
	z.Flush() // so that the frame's header does not say how much there is
	z.Close()
	w := dial(t, start(t, Config{Topic: "chat"}).Addr())
	if err := w.produce("chat", batch(1, b.Bytes(), attributes(4))); err != nil {
		t.Error(err)
	}
	if got := w.values("chat"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("there is %q", got)
	}
}
