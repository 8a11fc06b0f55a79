package realkafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/realkafka"
)

func ready(t *testing.T, c *realkafka.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// eventually tries until it succeeds: a broker that serves clients may still be electing leaders.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func newClient(addrs string) (sarama.Client, error) {
	config := sarama.NewConfig()
	config.Version = sarama.V2_1_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	config.Producer.Partitioner = sarama.NewManualPartitioner
	return sarama.NewClient(strings.Split(addrs, ","), config)
}

func connect(t *testing.T, addrs string) sarama.Client {
	t.Helper()
	client, err := newClient(addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func createTopic(t *testing.T, addrs string, copies int16) {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(connect(t, addrs))
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: copies}, false); err != nil {
		t.Fatal(err)
	}
}

func topics(t *testing.T, addrs string) []string {
	t.Helper()
	names, err := connect(t, addrs).Topics()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func produce(addrs string) error {
	client, err := newClient(addrs)
	if err != nil {
		return err
	}
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return err
	}
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("a record")})
	return err
}

func wantEnd(addrs string, want int64) error {
	client, err := newClient(addrs)
	if err != nil {
		return err
	}
	defer client.Close()
	end, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
	if err == nil && end != want {
		err = fmt.Errorf("the partition ends at offset %d, want %d", end, want)
	}
	return err
}

func wantInSync(addrs string, want int) error {
	client, err := newClient(addrs)
	if err != nil {
		return err
	}
	defer client.Close()
	replicas, err := client.InSyncReplicas(topic, 0)
	if err == nil && len(replicas) != want {
		err = fmt.Errorf("in sync are the brokers %v, want %d", replicas, want)
	}
	return err
}

func leader(t *testing.T, addrs string) int32 {
	t.Helper()
	broker, err := connect(t, addrs).Leader(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	return broker.ID()
}
