package presence

import (
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

// Pods find each other, whatever others write, and after faults. A topic that a pod makes is bounded.
func TestTopic(t *testing.T) {
	t.Parallel()
	const patience = 60 * time.Second // for what a busy machine may take
	brokers, chat := kafkatest.Broker(t), "test-presence-"+rand.Text()
	proxy, pods := kafkatest.NewProxy(t, brokers), chat+".pods"
	cluster := &kafka.Cluster{Brokers: []string{proxy.Addr()}}
	config := cluster.Config(context.Background(), "test-admin")
	config.Metadata.Full = true
	ask := func(f func(sarama.ClusterAdmin) error) error { // connects each time: the broker closes a new connection that asks nothing
		admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
		if err == nil {
			defer admin.Close()
			err = f(admin)
		}
		return err
	}
	remove := func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(pods) }
	t.Cleanup(func() {
		if err := ask(remove); err != nil {
			t.Logf("topic %s stays: %v", pods, err)
		}
	})
	if _, err := cluster.EnsureTopic(t.Context(), pods, nil); err != nil { // without this server's bounds
		t.Fatal(err)
	}
	a, b := begin(t, cluster, chat, "a", nil), begin(t, cluster, chat, "b", nil)
	want(patience, "a:0 b:0", a, b)

	for i := range 20 { // large records of another program
		kafkatest.Produce(t, brokers, pods, fmt.Sprintf(`{"pod":"f","seq":1,"people":9,"instance":"%d%s"}`, i, strings.Repeat("i", 900_000)))
	}
	b.people(1)
	want(patience, "a:0 b:1", a)

	conns := proxy.Conns()
	proxy.Refuse(true)
	proxy.Cut()
	b.people(2)
	want(patience, "a:0 b:2", b)
	proxy.Refuse(false)
	want(patience, "a:0 b:2", a)
	for deadline := time.Now().Add(patience); proxy.Conns() > conns+2; time.Sleep(10 * time.Millisecond) { // some are being replaced
		if time.Now().After(deadline) {
			t.Fatalf("%d connections, before the fault %d", proxy.Conns(), conns)
		}
	}

	if err := ask(remove); err != nil {
		t.Fatal(err)
	}
	b.people(3)
	want(patience, "a:0 b:3", a)
	b.stop()
	want(patience, "a:0", a)
	var entries []sarama.ConfigEntry
	err := error(sarama.ErrUnknownTopicOrPartition)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		err = ask(func(admin sarama.ClusterAdmin) (err error) {
			entries, err = admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: pods})
			return err
		})
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
