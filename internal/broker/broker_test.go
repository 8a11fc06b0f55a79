package broker

import (
	"bytes"
	"context"
	"errors"
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

func TestSarama(t *testing.T) {
	t.Parallel()
	b := start(t, Config{})
	want := []string{"hello", strings.Repeat("long ", 100_000), "", strings.Repeat("x", 1_000_000-100)} // a batch has at most 1,000,000 bytes
	for name, set := range map[string]func(*sarama.Config){
		"idempotent": func(c *sarama.Config) {
			c.Producer.Idempotent, c.Producer.Retry.Max, c.Net.MaxOpenRequests = true, 1, 1
		},
		"snappy":          func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionSnappy },
		"lz4":             func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionLZ4 },
		"gzip-old":        func(c *sarama.Config) { c.Producer.Compression, c.Version = sarama.CompressionGZIP, sarama.V2_1_0_0 },
		"zstd-new":        func(c *sarama.Config) { c.Producer.Compression, c.Version = sarama.CompressionZSTD, sarama.MaxVersion },
		"without-answers": func(c *sarama.Config) { c.Producer.RequiredAcks = sarama.NoResponse },
	} {
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Producer.Return.Successes = true
		config.Producer.Retry.Max = 0
		set(config)
		producer, err := sarama.NewSyncProducer([]string{b.Addr()}, config)
		if err != nil {
			t.Fatal(err)
		}
		err = dial(t, b.Addr()).create(name, 1)
		for _, v := range want {
			_, _, sent := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(v)})
			err = errors.Join(err, sent)
		}
		if err = errors.Join(err, producer.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		consumer, err := sarama.NewConsumer([]string{b.Addr()}, config)
		if err != nil {
			t.Fatal(err)
		}
		partition, err := consumer.ConsumePartition(name, 0, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			select {
			case m := <-partition.Messages():
				if string(m.Value) != v {
					t.Fatalf("%s: record %d is another one", name, i)
				}
			case <-time.After(patience):
				t.Fatalf("%s: record %d does not come", name, i)
			}
		}
		partition.Close()
		consumer.Close()
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

// The usual port may be that of another broker. An address that somebody has asked for may not.
// A broker on every address tells each client the one that the client has used.
func TestAddresses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := start(t, Config{Addr: "0.0.0.0:0"})
	b := &Broker{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	if err := b.listen(a.Addr()); err != nil {
		t.Fatal(err)
	}
	defer b.ln.Close()
	if a.Addr() == b.Addr() || !strings.Contains(log.String(), a.Addr()+" is in use") {
		t.Errorf("two brokers at %s and %s; the log is %s", a.Addr(), b.Addr(), &log)
	}
	for _, addr := range []string{a.Addr(), "192.0.2.1:9092"} { // the latter is another machine's
		if _, err := Start(Config{Addr: addr}); err == nil || !strings.Contains(err.Error(), "EMBEDDED_ADDR=\""+addr+"\" cannot be used") {
			t.Errorf("at %s: %v", addr, err)
		}
	}
	w := dial(t, a.Addr())
	brokers := w.ask(kmsg.NewPtrMetadataRequest(), 1).(*kmsg.MetadataResponse).Brokers
	coordinator := w.ask(kmsg.NewPtrFindCoordinatorRequest(), 1).(*kmsg.FindCoordinatorResponse)
	for _, told := range []string{fmt.Sprintf("%s:%d", brokers[0].Host, brokers[0].Port), fmt.Sprintf("%s:%d", coordinator.Host, coordinator.Port)} {
		if told != a.Addr() {
			t.Errorf("a client of %s is told %s", a.Addr(), told)
		}
	}
}

// Close waits for nobody: not for a fetch that waits, and not for half a request.
func TestCloseEndsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, dir := range []string{"", t.TempDir()} {
		b := start(t, Config{Topic: "chat", DataDir: dir})
		for range 30 {
			dial(t, b.Addr()).Write([]byte{0, 0, 0, 20, 0}) // the beginning of a request
		}
		w := dial(t, b.Addr())
		w.newest("chat") // so that all are known to be served
		wait := fetchRequest("chat", 0)
		wait.MinBytes, wait.MaxWaitMillis = 1, 60_000
		w.Write(w.bytes(wait, 11))
		begin := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > requestTimeout*9/10 {
			t.Errorf("Close took %v", took)
		}
		if _, err := b.ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the broker still listens: %v", err)
		}
	}
}
