package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Shopify/sarama"
)

const minInSync = "min.insync.replicas"

// A State is what is known of a topic.
type State struct {
	Made       bool // by this call of EnsureTopic
	Partitions int32
	// Copies is how many brokers are to have partition 0. MinInSync is how many of them must be in
	// sync before a record is accepted; 0: not known.
	Copies, MinInSync int
	led               bool // partition 0 has a leader
}

// Mend returns the command after which topic accepts records while one of its brokers is away. It
// returns "" if topic does so already, or has only one copy. A topic that was made while one of
// three brokers was away has two copies, and both must be in sync.
func (s State) Mend(topic string) string {
	if s.Copies < 2 || s.Copies > s.MinInSync {
		return ""
	}
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name %s --add-config %s=%d",
		topic, minInSync, s.Copies-1)
}

// Lookup returns how many partitions a topic has. If the topic does not exist, the error is a
// sarama.ErrUnknownTopicOrPartition, and names similar topics.
func (c *Cluster) Lookup(ctx context.Context, topic string) (partitions int32, err error) {
	if partitions, err = c.Partitions(ctx, topic); err != nil || partitions > 0 {
		return partitions, err
	}
	q, done := c.ask(ctx)
	defer done()
	var meant []string
	if all, err := q.metadata(); err == nil {
		for _, t := range all.Topics {
			if alike(strings.ToLower(t.Name), strings.ToLower(topic)) {
				meant = append(meant, strconv.Quote(t.Name))
			}
		}
	}
	hint := ""
	if slices.Sort(meant); len(meant) > 0 {
		hint = " (did you mean " + strings.Join(meant[:min(3, len(meant))], " or ") + "?)"
	}
	return 0, newFault(sarama.ErrUnknownTopicOrPartition, "there is no topic %q%s", topic, hint)
}

// alike says whether a and b differ by a typing error at one place: two letters in the wrong order,
// or a letter (from eight letters on, two) too many, missing or wrong. Names of up to three letters
// must be the same.
func alike(a, b string) bool {
	longest := min(2, max(len(a), len(b))/4)
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	swapped := len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
	return max(len(a), len(b)) <= longest || swapped && longest > 0
}

// Partitions returns how many partitions a topic has, 0 if the topic does not exist.
func (c *Cluster) Partitions(ctx context.Context, topic string) (int32, error) {
	q, done := c.ask(ctx)
	defer done()
	_, state, err := q.look(topic)
	return state.Partitions, err
}

// EnsureTopic makes topic if it does not exist, with one partition on up to three brokers, and
// waits until partition 0 has a leader. Another client may make the topic at the same time.
// Settings (Kafka's names and values) are for a topic that is made here; nil: the settings for
// records that are to be kept. A topic that exists keeps its settings.
func (c *Cluster) EnsureTopic(ctx context.Context, topic string, settings map[string]string) (State, error) {
	q, done := c.ask(ctx)
	defer done()
	for made := false; ; {
		metadata, state, err := q.look(topic)
		state.Made = made
		if err == nil && state.led {
			state.MinInSync, err = q.minInSync(metadata, topic)
			return state, err
		}
		if err == nil && state.Partitions == 0 && !made {
			made, err = q.createTopic(metadata, topic, settings)
		}
		if err != nil {
			return state, err
		}
		select {
		case <-time.After(backoff / 2): // the brokers still exchange metadata, or elect a leader
		case <-ctx.Done():
			return state, fmt.Errorf("waiting for topic %q to become ready: %w", topic, ctx.Err())
		}
	}
}

// look returns the metadata and the state of the topic.
func (q questions) look(topic string) (metadata *sarama.MetadataResponse, state State, err error) {
	if metadata, err = q.metadata(topic); err != nil {
		return nil, State{}, err
	}
	for _, t := range metadata.Topics { // only this topic was asked for
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable, sarama.ErrUnknownTopicOrPartition:
		default:
			return metadata, State{}, q.Explain(t.Err, "DESCRIBE", topic)
		}
		for _, p := range t.Partitions {
			if p.ID == 0 {
				state.Copies, state.led = len(p.Replicas), p.Leader >= 0
			}
		}
		state.Partitions = int32(len(t.Partitions))
	}
	return metadata, state, nil
}

// createTopic asks once. It returns false without an error if another client was faster, or if the
// cluster is not ready yet.
func (q questions) createTopic(metadata *sarama.MetadataResponse, topic string, settings map[string]string) (bool, error) {
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: int16(min(3, len(metadata.Brokers))), ConfigEntries: make(map[string]*string)}
	if settings == nil && detail.ReplicationFactor == 3 {
		// With 2, one broker may be away, and still no acknowledged record is on one disk only.
		settings = map[string]string{minInSync: "2"}
	}
	for name, value := range settings {
		detail.ConfigEntries[name] = &value
	}
	request := &sarama.CreateTopicsRequest{Version: 2, Timeout: produceTimeout, TopicDetails: map[string]*sarama.TopicDetail{topic: detail}}
	answer := new(sarama.TopicError)
	err := q.advertised(metadata, func(broker *sarama.Broker) error {
		response, err := broker.CreateTopics(request)
		if err != nil || response.TopicErrors[topic] == nil {
			return cmp.Or(err, error(sarama.ErrIncompleteResponse))
		}
		if answer = response.TopicErrors[topic]; answer.Err == sarama.ErrNotController { // with ZooKeeper, only the controller makes topics
			return answer
		}
		return nil
	})
	switch answer.Err {
	case sarama.ErrNoError:
		return err == nil, err
	case sarama.ErrTopicAlreadyExists, sarama.ErrRequestTimedOut, sarama.ErrNotController, sarama.ErrInvalidReplicationFactor:
		// The last error: a broker has just left. The next metadata says how many there are.
		return false, nil
	}
	return false, q.Explain(answer, "CREATE", topic)
}

// minInSync asks for min.insync.replicas of topic. n is 0 if this client may not ask. An error says
// that the brokers cannot be reached at their advertised addresses.
func (q questions) minInSync(metadata *sarama.MetadataResponse, topic string) (n int, err error) {
	request := &sarama.DescribeConfigsRequest{Version: 1,
		Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{minInSync}}}}
	err = q.advertised(metadata, func(broker *sarama.Broker) error {
		response, err := broker.DescribeConfigs(request)
		if err == nil && len(response.Resources) == 1 && len(response.Resources[0].Configs) == 1 {
			n, _ = strconv.Atoi(response.Resources[0].Configs[0].Value)
		}
		return err
	})
	return n, err
}
