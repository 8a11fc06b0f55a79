// Package kafkatest gives a test a Kafka: a broker, topics of its own, and a proxy that makes the
// connections to any Kafka fail on demand.
package kafkatest

import (
	"crypto/rand"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/broker"
)

// Broker returns the address of the test's Kafka: KAFKA_BROKER, or if that is not set an embedded
// broker, which ends with the test.
func Broker(t testing.TB) string {
	t.Helper()
	if brokers := os.Getenv("KAFKA_BROKER"); brokers != "" {
		return brokers
	}
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the embedded broker: %v", err)
		}
	})
	return b.Addr()
}

// Topic makes a topic with one partition, under a name that no other test has, and deletes it when
// the test ends.
func Topic(t testing.TB, brokers string) string {
	t.Helper()
	topic := TopicName(t, brokers)
	Recreate(t, brokers, topic)
	return topic
}

// TopicName returns a name that no other test has, for a topic that does not exist yet. The topic
// is deleted when the test ends.
func TopicName(t testing.TB, brokers string) string {
	t.Helper()
	topic := "test-" + regexp.MustCompile(`[^a-zA-Z0-9_-]`).ReplaceAllString(t.Name(), "-") + "-" + rand.Text()[:8]
	if len(topic) > 200 { // Kafka allows 249
		topic = topic[:100] + topic[len(topic)-100:]
	}
	t.Cleanup(func() {
		admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config())
		if err == nil {
			defer admin.Close()
			err = admin.DeleteTopic(topic)
		}
		if err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			t.Logf("topic %s stays: %v", topic, err) // the test may have ended the broker
		}
	})
	return topic
}

// Recreate deletes the topic, if it exists, and makes it again at once, with values as its first
// records: another log under the same name.
func Recreate(t testing.TB, brokers, topic string, values ...string) {
	t.Helper()
	client, err := sarama.NewClient(strings.Split(brokers, ","), config())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	until := func(works func() error) {
		t.Helper()
		for err := works(); err != nil; err = works() {
			if time.Now().After(deadline) {
				t.Fatalf("making topic %s: %v", topic, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	until(func() error {
		if err := admin.DeleteTopic(topic); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return err
		}
		return nil
	})
	late := false // Kafka may have made the topic though it answered late
	until(func() error {
		err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: -1}, false)
		if late && errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return nil
		}
		late = late || errors.Is(err, sarama.ErrRequestTimedOut)
		return err // Kafka may still be deleting the older topic
	})
	until(func() error {
		if err := client.RefreshMetadata(topic); err != nil {
			return err
		}
		_, err := client.Leader(topic, 0)
		return err
	})
	Produce(t, brokers, topic, values...)
}

// Produce appends values to the topic's partition 0, in this order.
func Produce(t testing.TB, brokers, topic string, values ...string) {
	t.Helper()
	var records []*sarama.ProducerMessage
	for _, v := range values {
		records = append(records, &sarama.ProducerMessage{Value: sarama.StringEncoder(v)})
	}
	ProduceRecords(t, brokers, topic, records...)
}

// ProduceRecords appends records to partition 0, in this order.
func ProduceRecords(t testing.TB, brokers, topic string, records ...*sarama.ProducerMessage) {
	t.Helper()
	if len(records) == 0 {
		return
	}
	producer, err := sarama.NewSyncProducer(strings.Split(brokers, ","), config())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, r := range records {
		r.Topic = topic
	}
	// The first record goes alone: others could overtake it if sarama had to send it again.
	if err := errors.Join(producer.SendMessages(records[:1]), producer.SendMessages(records[1:])); err != nil {
		t.Fatalf("producing to %s: %v", topic, err)
	}
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.ClientID = "kafkatest"
	config.ApiVersionsRequest = false
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 100           // a new topic may have no leader for a moment
	config.Producer.MaxMessageBytes = 2 << 20 // the broker's limit counts
	return config
}
