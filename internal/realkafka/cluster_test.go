package realkafka_test

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

const patience = 120 * time.Second

// A node keeps its data when it is killed, loses it when it is wiped, and is silent while it is paused.
func TestOneBroker(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	kafkatest.Recreate(t, c.Addrs(), "test")
	c.Kill(0)
	if conn, err := net.Dial("tcp", c.Addr(0)); err == nil {
		conn.Close()
		t.Error("a killed broker accepts connections")
	}
	c.Start(0)
	wantTopics(t, c, "test")
	c.Pause(0)
	if topics, err := ask(c, 2*time.Second); err == nil {
		t.Errorf("a paused broker answers, and has the topics %q", topics)
	}
	c.Resume(0)
	c.Wipe(0)
	c.Start(0)
	wantTopics(t, c)
}

// wantTopics waits for what a broker knows once it has read its log.
func wantTopics(t *testing.T, c *realkafka.Cluster, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		topics, err := ask(c, patience)
		if err == nil && slices.Equal(topics, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the topics are %q (%v), want %q", topics, err, want)
		}
	}
}

// ask returns the topics that there are.
func ask(c *realkafka.Cluster, timeout time.Duration) ([]string, error) {
	config := sarama.NewConfig()
	config.Net.ReadTimeout, config.Metadata.Retry.Max = timeout, 0
	client, err := sarama.NewClient(strings.Split(c.Addrs(), ","), config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Topics()
}
