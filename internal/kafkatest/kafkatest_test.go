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

// values reads n records of partition 0 from its start; fewer if the test has failed.
func values(t *testing.T, brokers, topic string, n int) (got []string) {
	t.Helper()
	config := newConfig()
	config.Metadata.Retry.Max = 10
	consumer, err := sarama.NewConsumer(strings.Split(brokers, ","), config)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer partition.Close()
	timeout := time.After(60 * time.Second)
	for len(got) < n {
		select {
		case m := <-partition.Messages():
			got = append(got, string(m.Value))
		case <-timeout:
			t.Errorf("only %d records of %d came: %q", len(got), n, got)
			return got
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
