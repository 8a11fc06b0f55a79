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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

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

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	return config
}

func TestSarama(t *testing.T) {
	t.Parallel()
	b := start(t, Config{})
	want := []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)} // a batch has at most 1,000,000 bytes
	for name, set := range map[string]func(*sarama.Config){
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
		"without-answers": func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.NoResponse },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := dial(t, b.Addr()).create(name, 1); err != nil {
				t.Fatal(err)
			}
			config := saramaConfig()
			set(config)
			produce(t, b.Addr(), config, name, want...)
			consumer, err := sarama.NewConsumer([]string{b.Addr()}, config)
			if err != nil {
				t.Fatal(err)
			}
			defer consumer.Close()
			partition, err := consumer.ConsumePartition(name, 0, sarama.OffsetOldest)
			if err != nil {
				t.Fatal(err)
			}
			defer partition.Close()
			for i, v := range want {
				select {
				case m := <-partition.Messages():
					if string(m.Value) != v {
						t.Fatalf("record %d is another one", i)
					}
				case <-time.After(patience):
					t.Fatalf("record %d does not come", i)
				}
			}
		})
	}
}

// franz-go compresses and is idempotent by default, sends several batches at a time, and asks for
// fetch sessions.
func TestFranz(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient(kgo.SeedBrokers(start(t, Config{Topic: "chat"}).Addr()), kgo.DefaultProduceTopic("chat"),
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
	for at, want := range map[int64]int64{0: 0, now.UnixMilli(): 2, now.UnixMilli() + 3_600_000: -1} {
		if got := dial(t, b.Addr()).offset("chat", at); got != want {
			t.Errorf("the first record at or after %d has offset %d, want %d", at, got, want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := start(t, Config{Topic: "chat"})
	b := start(t, Config{Topic: "chat", Addr: a.Addr(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if taken, _, _ := strings.Cut(log.String(), "\n"); a.Addr() == b.Addr() || !strings.Contains(taken, b.Addr()) {
		t.Errorf("two brokers at %s and %s; the log does not name the second: %s", a.Addr(), b.Addr(), &log)
	}
	produce(t, b.Addr(), saramaConfig(), "chat", "b") // which asks b where b is
	if n := dial(t, a.Addr()).newest("chat"); n != 0 {
		t.Errorf("what was sent to one broker is on the other")
	}
	if _, err := Start(Config{Addr: "192.0.2.1:9092"}); err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("an address of another machine: %v", err)
	}
}

// A broker that listens on every address tells each client the one that the client has used.
func TestAdvertisedAddress(t *testing.T) {
	b := start(t, Config{Addr: "0.0.0.0:0"})
	_, port, _ := net.SplitHostPort(b.Addr())
	w := dial(t, b.Addr())
	brokers := w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Brokers
	if len(brokers) != 1 || brokers[0].Host != "127.0.0.1" || fmt.Sprint(brokers[0].Port) != port {
		t.Errorf("the brokers are %+v, want 127.0.0.1:%s", brokers, port)
	}
	coordinator := w.ask(kmsg.NewPtrFindCoordinatorRequest(), 1).(*kmsg.FindCoordinatorResponse)
	if coordinator.Host != "127.0.0.1" || fmt.Sprint(coordinator.Port) != port {
		t.Errorf("the coordinator is %s:%d, want 127.0.0.1:%s", coordinator.Host, coordinator.Port, port)
	}
}

// Close waits for nobody: not for who reads no answer, not for a fetch that waits, and not for half
// a request.
func TestCloseEndsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		for range 30 {
			dial(t, b.Addr()).Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
		}
		w := dial(t, b.Addr())
		w.newest("chat") // so that it is known to be served
		wait := fetchRequest("chat", 0)
		wait.MinBytes, wait.MaxWaitMillis = 1, 60_000
		w.Write(w.bytes(wait, 11))
		begin := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("Close took %v", took)
		}
		if _, err := net.Dial("tcp", b.Addr()); err == nil {
			t.Errorf("somebody still listens at %s", b.Addr())
		}
	}
}
