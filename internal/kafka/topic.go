package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
)

// adminConfig is for the requests below. They return their errors, so nobody is warned of them besides.
func (c *Cluster) adminConfig(ctx context.Context) *sarama.Config {
	return c.config(ctx, "kafkachat-admin", func(error) {})
}

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that this one advertises. Its error is one
// sentence that says which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.adminConfig(ctx)
	metadata, err := c.metadata(ctx, config, "")
	if err != nil {
		return err
	}
	return c.reach(ctx, config, metadata)
}

// Partitions returns the number of partitions of topic, 0 if it does not exist.
func (c *Cluster) Partitions(ctx context.Context, topic string) (int32, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	metadata, err := c.metadata(ctx, c.adminConfig(ctx), topic)
	if err != nil {
		return 0, err
	}
	n, _, err := partitions(metadata, topic)
	return n, err
}

// EnsureTopic makes topic if it does not exist, with one partition on up to three brokers, and waits until every partition
// has a leader. Somebody else may be making it at the same time.
func (c *Cluster) EnsureTopic(ctx context.Context, topic string) (created bool, n int32, err error) {
	return c.ensureTopic(ctx, topic, func(copies int16) map[string]string {
		if copies < 3 {
			return nil
		}
		return map[string]string{"min.insync.replicas": "2"} // one broker may be away, and still no acknowledged record is on one disk only
	})
}

// EnsureTopicWith is EnsureTopic with settings of its own (Kafka's names and values) for a topic that it makes. One that
// exists keeps the settings that it has.
func (c *Cluster) EnsureTopicWith(ctx context.Context, topic string, settings map[string]string) (created bool, err error) {
	created, _, err = c.ensureTopic(ctx, topic, func(int16) map[string]string { return settings })
	return created, err
}

func (c *Cluster) ensureTopic(ctx context.Context, topic string, settings func(copies int16) map[string]string) (created bool, n int32, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.adminConfig(ctx)
	for {
		metadata, err := c.metadata(ctx, config, topic)
		if err != nil {
			return created, 0, err
		}
		n, led, err := partitions(metadata, topic)
		if err != nil {
			return created, 0, err
		}
		if led {
			return created, n, nil
		}
		if n == 0 && !created {
			copies := int16(min(3, len(metadata.Brokers)))
			created, err = c.createTopic(ctx, config, metadata, topic, copies, settings(copies))
			if err != nil {
				return created, 0, err
			}
		}
		select {
		case <-time.After(backoff / 2): // the brokers are still telling each other, or choosing a leader
		case <-ctx.Done():
			return created, 0, fmt.Errorf("waiting for topic %q to become ready: %w", topic, ctx.Err())
		}
	}
}

// partitions says how many partitions the topic has (0: there is no such topic), and whether each has a leader.
func partitions(metadata *sarama.MetadataResponse, topic string) (n int32, led bool, err error) {
	for _, t := range metadata.Topics {
		if t.Name != topic {
			continue
		}
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
		case sarama.ErrUnknownTopicOrPartition:
			return 0, false, nil
		case sarama.ErrInvalidTopic:
			return 0, false, invalidTopic(topic)
		default:
			return 0, false, fmt.Errorf("topic %q: %w", topic, t.Err)
		}
		led = len(t.Partitions) > 0
		for _, p := range t.Partitions {
			led = led && p.Err != sarama.ErrLeaderNotAvailable && p.Leader >= 0
		}
		return int32(len(t.Partitions)), led, nil
	}
	return 0, false, nil
}

func invalidTopic(topic string) error {
	return newFault(sarama.ErrInvalidTopic, "TOPIC=%q: %s", topic, validTopic(MaxTopic))
}

// createTopic asks the controller once. It says false without an error if somebody else was faster, or if the cluster has
// to settle first.
func (c *Cluster) createTopic(ctx context.Context, config *sarama.Config, metadata *sarama.MetadataResponse, topic string, copies int16, settings map[string]string) (bool, error) {
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: copies, ConfigEntries: make(map[string]*string)}
	for name, value := range settings {
		detail.ConfigEntries[name] = &value
	}
	// With a ZooKeeper only the controller does this; later brokers pass it on, and name any of them.
	for _, broker := range metadata.Brokers {
		if broker.ID() != metadata.ControllerID {
			continue
		}
		if err := connect(broker, config); err != nil {
			return false, c.unreachable(ctx, map[string]error{broker.Addr(): err}, []string{broker.Addr()})
		}
		defer broker.Close()
		response, err := broker.CreateTopics(&sarama.CreateTopicsRequest{
			Version:      2,
			TopicDetails: map[string]*sarama.TopicDetail{topic: detail},
			Timeout:      produceTimeout,
		})
		if err != nil {
			return false, fmt.Errorf("making topic %q: %w", topic, err)
		}
		answer := response.TopicErrors[topic]
		if answer == nil {
			return false, fmt.Errorf("making topic %q: %w", topic, sarama.ErrIncompleteResponse)
		}
		switch answer.Err {
		case sarama.ErrNoError:
			return true, nil
		case sarama.ErrTopicAlreadyExists, sarama.ErrNotController, sarama.ErrRequestTimedOut, sarama.ErrInvalidReplicationFactor:
			return false, nil // the last one: a broker has just left; the next metadata says how many there are
		case sarama.ErrInvalidTopic:
			return false, invalidTopic(topic)
		}
		return false, fmt.Errorf("making topic %q: %w", topic, answer)
	}
	return false, nil // no controller at the moment
}

// metadata asks the first bootstrap broker that answers about the brokers and topic ("": any). It does not wait for
// anything to change, as sarama's clients do.
func (c *Cluster) metadata(ctx context.Context, config *sarama.Config, topic string) (*sarama.MetadataResponse, error) {
	failed := make(map[string]error)
	for _, addr := range c.Brokers {
		broker := sarama.NewBroker(addr)
		err := connect(broker, config)
		if err == nil {
			var response *sarama.MetadataResponse
			response, err = broker.GetMetadata(sarama.NewMetadataRequest(config.Version, topics(topic)))
			broker.Close()
			if err == nil {
				return response, nil
			}
		}
		failed[addr] = err
	}
	return nil, c.unreachable(ctx, failed, c.Brokers)
}

func topics(topic string) []string {
	if topic == "" {
		return nil
	}
	return []string{topic}
}

// reach connects to the first advertised broker that can be reached.
func (c *Cluster) reach(ctx context.Context, config *sarama.Config, metadata *sarama.MetadataResponse) error {
	failed := make(map[string]error)
	var tried []string
	for _, broker := range metadata.Brokers {
		err := connect(broker, config)
		if err == nil {
			broker.Close()
			return nil
		}
		failed[broker.Addr()] = err
		tried = append(tried, broker.Addr())
	}
	list, err := c.explain(ctx, failed, tried)
	if list == "" {
		return err
	}
	return newFault(err, "the broker at %s answers, but sends its clients to %s, where nobody can be reached from here: correct its advertised.listeners",
		strings.Join(c.Brokers, ", "), list)
}

// connect opens the connection and waits for it.
func connect(broker *sarama.Broker, config *sarama.Config) error {
	if err := broker.Open(config); err != nil {
		return err
	}
	_, err := broker.Connected()
	return err
}

// unreachable makes one sentence of why no broker was reached.
func (c *Cluster) unreachable(ctx context.Context, failed map[string]error, brokers []string) error {
	list, err := c.explain(ctx, failed, brokers)
	if list == "" {
		return err
	}
	return newFault(err, "no Kafka broker at %s: start one with `go run ./chatserver`, or set KAFKA_BROKER", list)
}

// explain returns a fault, if one of the errors is one and so says everything, or else the list of the brokers, each with the
// reason why it was not reached.
func (c *Cluster) explain(ctx context.Context, failed map[string]error, brokers []string) (list string, err error) {
	var tried []string
	for _, addr := range brokers {
		err = c.sasl.explain(failed[addr], addr)
		if f := new(fault); errors.As(err, &f) {
			return "", f
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", addr, reason(ctx, err)))
	}
	return strings.Join(tried, ", "), err
}

// reason is the part of a network error that tells a person something.
func reason(ctx context.Context, err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case ctx.Err() == context.Canceled:
		return "stopped"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closes the connection; KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return err.Error()
}
