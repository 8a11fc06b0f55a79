package kafkatest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
)

// values reads n records of partition 0 from its start.
func values(t *testing.T, brokers, topic string, n int) []string {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	consumer, err := sarama.NewConsumer(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer partition.Close()
	var got []string
	for len(got) < n {
		select {
		case m := <-partition.Messages():
			got = append(got, string(m.Value))
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d records of %d came: %q", len(got), n, got)
		}
	}
	return got
}

func TestTopicsAreApart(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	a, b := kafkatest.Topic(t, brokers), kafkatest.Topic(t, brokers)
	if a == b {
		t.Fatalf("two topics have the name %s", a)
	}
	kafkatest.Produce(t, brokers, a, "1", "2", "3")
	kafkatest.Produce(t, brokers, b, "4")
	if got := values(t, brokers, a, 3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("topic a has %q", got)
	}
	if got := values(t, brokers, b, 1); !slices.Equal(got, []string{"4"}) {
		t.Errorf("topic b has %q", got)
	}
}

func TestRecreate(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "old", "older")
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint("new ", i))
	}
	kafkatest.Recreate(t, brokers, topic, want...)
	if got := values(t, brokers, topic, len(want)); !slices.Equal(got, want) {
		t.Errorf("the new topic has %q", got)
	}
}
