package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/Shopify/sarama"
)

// EnsureTopicWith makes topic if it does not exist, like EnsureTopic, but with settings of its own (Kafka's names and
// values), and it does not wait for a leader. A topic that exists keeps the settings that it has.
func (c *Cluster) EnsureTopicWith(ctx context.Context, topic string, settings map[string]string) (created bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	metadata, err := c.metadata(ctx, c.adminConfig(ctx), topic)
	if err != nil {
		cancel()
		return false, err
	}
	if n, _, err := partitions(metadata, topic); n > 0 || err != nil {
		cancel()
		return false, err
	}

	config := c.adminConfig(ctx)
	config.Metadata.Full = true // sarama's admin asks for all topics, or not at all
	admin, err := sarama.NewClusterAdmin(c.Brokers, config)
	if err != nil {
		cancel()
		return false, fmt.Errorf("making topic %q: %w", topic, err)
	}
	defer admin.Close()
	defer cancel() // first of all: it ends whatever the admin is waiting for
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: int16(min(3, len(metadata.Brokers)))}
	detail.ConfigEntries = make(map[string]*string)
	for name, value := range settings {
		detail.ConfigEntries[name] = &value
	}
	err = admin.CreateTopic(topic, detail, false)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
		return false, nil // somebody else was faster
	case errors.Is(err, sarama.ErrInvalidTopic):
		return false, invalidTopic(topic)
	}
	return false, fmt.Errorf("making topic %q: %w", topic, err)
}
