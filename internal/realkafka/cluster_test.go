package realkafka_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/realkafka"
)

const (
	topic = "test"
	// patience is for what takes Kafka five seconds on an idle machine: this one may be busy with ten
	// other things.
	patience = 120 * time.Second
)

// eventually tries until it succeeds: a broker that serves clients may still be electing leaders.
// Each try has a client of its own.
func eventually(t *testing.T, c *realkafka.Cluster, what string, try func(sarama.Client) error) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_1_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 0
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		client, err := sarama.NewClient(strings.Split(c.Addrs(), ","), config)
		if err == nil {
			err = try(client)
			client.Close()
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func create(client sarama.Client) error {
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err == nil {
		err = admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	}
	return err
}

func produce(client sarama.Client) error {
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return err
	}
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("a record")})
	return err
}

func endsAt(want int64) func(sarama.Client) error {
	return func(client sarama.Client) error {
		end, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
		if err == nil && end != want {
			err = fmt.Errorf("the partition ends at offset %d, want %d", end, want)
		}
		return err
	}
}

func restart(t *testing.T, c *realkafka.Cluster, node int) {
	t.Helper()
	c.Start(node)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A node keeps its data when it is killed, loses it when it is wiped, and is silent while it is paused.
func TestOneBroker(t *testing.T) {
	t.Parallel()
	c := realkafka.Start(t, realkafka.Options{})
	eventually(t, c, "a topic", create)
	eventually(t, c, "a record", produce)
	c.Kill(0)
	if conn, err := net.Dial("tcp", c.Addr(0)); err == nil {
		conn.Close()
		t.Fatal("a killed broker accepts connections")
	}
	restart(t, c, 0)
	eventually(t, c, "the record is there after a restart", endsAt(1))
	c.Pause(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Ready(ctx); err == nil {
		t.Error("a paused broker answers")
	}
	c.Resume(0)
	c.Kill(0)
	c.Wipe(0)
	restart(t, c, 0)
	eventually(t, c, "there is no topic on a wiped broker", create)
	eventually(t, c, "its offsets start again", endsAt(0))
}
