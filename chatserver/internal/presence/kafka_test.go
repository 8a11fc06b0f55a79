package presence

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"
	"go.uber.org/goleak"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// patience is for what a busy machine may take.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("time.Sleep")) // sarama's circuit breaker sleeps for ten seconds, whatever has ended
}

func cluster(brokers string) *kafka.Cluster {
	return &kafka.Cluster{Brokers: strings.Split(brokers, ",")}
}

// admin returns a client for topics that ends with the test.
func admin(t *testing.T, brokers string) sarama.ClusterAdmin {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config := cluster(brokers).Config(ctx, "test-admin")
	config.Metadata.Full = true
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		admin.Close()
	})
	return admin
}

// kafkaFor returns a Kafka and the name of a chat's topic that nobody else has.
func kafkaFor(t *testing.T) (brokers, topic string) {
	brokers, topic = kafkatest.Broker(t), "test-presence-"+rand.Text()
	t.Cleanup(func() {
		if err := admin(t, brokers).DeleteTopic(topic + ".pods"); err != nil {
			t.Logf("topic %s.pods stays: %v", topic, err)
		}
	})
	return brokers, topic
}

// Pods find each other through the topic, which is bounded, also when it is deleted under them.
func TestTopic(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
	a, b := begin(t, cluster(brokers), topic, "a", nil), begin(t, cluster(brokers), topic, "b", nil)
	want(patience, "a:0 b:0", a, b)
	if err := admin(t, brokers).DeleteTopic(topic + ".pods"); err != nil {
		t.Fatal(err)
	}
	b.people(1)
	want(patience, "a:0 b:1", a)
	b.stop()
	want(patience, "a:0", a)
	entries, err := admin(t, brokers).DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic + ".pods"})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		got[e.Name] = e.Value
	}
	for name, want := range map[string]string{"cleanup.policy": "delete", "retention.bytes": "1048576", "segment.bytes": "1048576", "max.message.bytes": "16384"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if ms := got["retention.ms"]; ms != "600000" && ms != "-1" { // the embedded broker knows no time
		t.Errorf("retention.ms is %q", ms)
	}
}

// A pod starts and stops whether Kafka is there or not, and shows itself.
func TestNoKafka(t *testing.T) {
	t.Parallel()
	a := begin(t, cluster("127.0.0.1:1"), "chat", "a", nil)
	want(patience, "a:0", a)
	a.people(2)
	want(patience, "a:2", a)
	begun := time.Now()
	a.stop()
	if took := time.Since(begun); took > 10*time.Second { // one, on a machine that is not busy
		t.Errorf("stopping took %v", took)
	}
}

// Large records of another program are read over.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkaFor(t)
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
