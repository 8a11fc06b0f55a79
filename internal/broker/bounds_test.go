package broker_test

import (
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/broker"
)

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
