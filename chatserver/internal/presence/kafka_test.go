package presence

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// patience is for what a busy machine may take.
const patience = 60 * time.Second

func cluster(brokers string) *kafka.Cluster {
	return &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
}

// kafkaFor returns a Kafka, a client for its topics, and the name of a chat's topic that nobody else has.
func kafkaFor(t *testing.T) (brokers string, admin sarama.ClusterAdmin, topic string) {
	t.Helper()
	brokers, topic = kafkatest.Broker(t), "test-presence-"+rand.Text()
	config := cluster(brokers).Config(context.Background(), "test-admin")
	config.Metadata.Full = true
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.DeleteTopic(topic + ".pods"); err != nil {
			t.Logf("topic %s.pods stays: %v", topic, err)
		}
		admin.Close()
	})
	return brokers, admin, topic
}

// Pods find each other through the topic, which is bounded, also when it is deleted under them.
func TestTopic(t *testing.T) {
	t.Parallel()
	brokers, admin, topic := kafkaFor(t)
	a, b := begin(t, cluster(brokers), topic, "a", nil), begin(t, cluster(brokers), topic, "b", nil)
	want(patience, "a:0 b:0", a, b)
	if err := admin.DeleteTopic(topic + ".pods"); err != nil {
		t.Fatal(err)
	}
	b.people(1)
	want(patience, "a:0 b:1", a)
	b.stop()
	want(patience, "a:0", a)
	var entries []sarama.ConfigEntry
	err := error(sarama.ErrUnknownTopicOrPartition)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		entries, err = admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic + ".pods"})
	}
	var bounds []string
	for _, e := range entries {
		bounds = append(bounds, e.Name+"="+e.Value)
	}
	for _, want := range []string{"cleanup.policy=delete", "retention.bytes=1048576", "segment.bytes=1048576", "max.message.bytes=16384"} {
		if !slices.Contains(bounds, want) {
			t.Errorf("no %s in %q, %v", want, bounds, err)
		}
	}
	if !slices.Contains(bounds, "retention.ms=600000") && !slices.Contains(bounds, "retention.ms=-1") { // the embedded broker knows no time
		t.Errorf("retention.ms is not set: %q", bounds)
	}
}

// A pod starts and stops whether Kafka is there or not, and shows itself.
func TestNoKafka(t *testing.T) {
	t.Parallel()
	a := begin(t, cluster("127.0.0.1:1"), "chat", "a", nil)
	a.people(2)
	want(patience, "a:2", a)
	a.stop()
}

// Large records of another program are read over.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	brokers, _, topic := kafkaFor(t)
	if _, err := cluster(brokers).EnsureTopic(t.Context(), topic+".pods", nil); err != nil { // without this server's bound
		t.Fatal(err)
	}
	a, b := begin(t, cluster(brokers), topic, "a", nil), begin(t, cluster(brokers), topic, "b", nil)
	want(patience, "a:0 b:0", a, b)
	large := string(bytes.Repeat([]byte("i"), 900_000))
	for i := range 20 {
		kafkatest.Produce(t, brokers, topic+".pods", fmt.Sprintf(`{"pod":"f","seq":1,"people":9,"instance":"%d%s"}`, i, large))
	}
	b.people(1)
	want(patience, "a:0 b:1", a)
}
