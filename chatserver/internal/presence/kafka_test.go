package presence

import (
	"context"
	"crypto/rand"
	"errors"
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
	ask := func(f func(sarama.ClusterAdmin) error) { // until it works, each time on new connections
		err := errors.New("not asked")
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			var admin sarama.ClusterAdmin
			if admin, err = sarama.NewClusterAdmin(strings.Split(brokers, ","), config); err == nil {
				err = f(admin)
				admin.Close()
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	remove := func(admin sarama.ClusterAdmin) error {
		if err := admin.DeleteTopic(pods); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) { // an earlier request may have done it
			return err
		}
		return nil
	}
	t.Cleanup(func() { ask(remove) })
	kafkatest.Recreate(t, brokers, pods) // without this server's bounds
	a, b := begin(t, cluster, chat, "a", nil), begin(t, cluster, chat, "b", nil)
	want(patience, "a:0 b:0", a, b)

	for i := range 20 { // large records of another program
		kafkatest.Produce(t, brokers, pods, fmt.Sprintf(`{"pod":"f","seq":1,"people":9,"instance":"%d%s"}`, i, strings.Repeat("i", 900_000)))
	}
	b.people(1)
	want(patience, "a:0 b:1", a)

	proxy.Refuse(true)
	proxy.Cut()
	b.people(2)
	time.Sleep(2 * pause)
	proxy.Refuse(false)
	want(patience, "a:0 b:2", a, b)
	for deadline := time.Now().Add(patience); proxy.Conns() > 2*4+2; time.Sleep(10 * time.Millisecond) { // some are being replaced
		if time.Now().After(deadline) {
			t.Fatalf("two pods have %d connections", proxy.Conns())
		}
	}

	ask(remove)
	b.people(3)
	want(patience, "a:0 b:3", a)
	b.stop()
	want(patience, "a:0", a)
	var bounds []string
	ask(func(admin sarama.ClusterAdmin) error {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: pods})
		for _, e := range entries {
			bounds = append(bounds, e.Name+"="+e.Value)
		}
		return err
	})
	for _, want := range []string{"cleanup.policy=delete", "retention.bytes=1048576", "segment.bytes=1048576", "max.message.bytes=16384"} {
		if !slices.Contains(bounds, want) {
			t.Errorf("no %s in %q", want, bounds)
		}
	}
	if !slices.Contains(bounds, "retention.ms=600000") && !slices.Contains(bounds, "retention.ms=-1") { // the embedded broker knows no time
		t.Errorf("retention.ms is not set: %q", bounds)
	}
}
