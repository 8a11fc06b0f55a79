package presence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

// A bus carries what a pod says to every pod that is listening at that moment, this one too. It
// is a topic of which nobody reads what was before.
type bus struct {
	cluster  *kafka.Cluster
	clientID string
	topic    string
	log      *slog.Logger

	joined chan struct{} // as in Presence
	heard  chan []byte
	say    chan []byte
}

const (
	openTimeout = 10 * time.Second // to make the topic and to connect
	retries     = 10               // within an attempt, for a topic without a leader: a second
	// stalled is the silence, after something was said, after which the connections are made anew.
	stalled = 5 * time.Second
)

var errStalled = errors.New("what is written does not come back")

// settings bound the topic: nothing in it is of use for longer than some seconds. It is not
// compacted: nobody reads what was before.
func settings() map[string]string {
	return map[string]string{
		"cleanup.policy":    "delete",
		"max.message.bytes": "16384",   // of a batch: some records of 2 KiB
		"retention.ms":      "600000",  // ten minutes, for a person who has a look with kafkaread
		"retention.bytes":   "1048576", // 1 MiB, and as much in the segment that is being written
		"segment.bytes":     "1048576", // the least that Kafka 4 takes
	}
}

// modest are the settings of a consumer that holds little, also of a topic in which other programs write large records.
func modest(config *sarama.Config) {
	config.Consumer.MaxWaitTime = time.Second // what is said ends the wait at once
	config.Consumer.Fetch.Default = 32 << 10
	config.ChannelBufferSize = 4
}

// run makes the bus work until ctx ends, whatever happens to Kafka.
func (b *bus) run(ctx context.Context) {
	wait := kafka.Wait{Say: func(err error) {
		switch {
		case err == nil:
			b.log.Info("the other pods can be heard again", "topic", b.topic)
		case kafka.KindOf(err) == kafka.Passing: // whoever reads the chat says why
			b.log.Debug("the other pods cannot be heard for now", "topic", b.topic, "err", err)
		default:
			b.log.Warn("the other pods cannot be heard for now", "topic", b.topic, "err", err)
		}
	}, After: 2 * time.Second}
	for {
		err := b.work(ctx, wait.Worked)
		if !wait.Failed(ctx, err) {
			return
		}
	}
}

// work connects, and carries until something is wrong.
func (b *bus) work(ctx context.Context, worked func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(openTimeout, cancel)
	defer late.Stop()
	state, err := b.cluster.EnsureTopic(ctx, b.topic, settings())
	if err != nil {
		return err
	}
	if state.Made {
		b.log.Debug("made the topic by which pods find each other", "topic", b.topic)
	}
	session, err := b.cluster.NewSession(ctx, b.clientID, b.topic, modest)
	if err != nil {
		return err
	}
	defer session.Close()
	if _, err := session.ConsumePartition(b.topic, 0, sarama.OffsetNewest); err != nil {
		return err
	}
	config := b.cluster.Config(ctx, b.clientID) // on connections of its own: a fetch holds up what is behind it
	config.Metadata.Retry.Max = retries
	config.Producer.RequiredAcks = sarama.WaitForLocal
	config.Producer.Return.Successes = false // a record that has come back is success enough
	producer, err := sarama.NewAsyncProducer(b.cluster.Brokers, config)
	if err != nil {
		return fmt.Errorf("making a producer: %w", err)
	}
	defer producer.Close()
	defer cancel() // first of all: it ends whatever the others wait for
	late.Stop()
	return b.carry(ctx, session, producer, worked)
}

// carry carries until something is wrong. Worked is called when it has begun.
func (b *bus) carry(ctx context.Context, session *kafka.Session, producer sarama.AsyncProducer, worked func()) error {
	var said time.Time // when the first record was said after which nothing was heard; zero: none
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	joined := b.joined
	for {
		select {
		case joined <- struct{}{}:
			joined = nil
		case message, ok := <-session.Messages():
			if !ok {
				return session.Err()
			}
			said = time.Time{}
			worked()
			select {
			case b.heard <- message.Value:
			case <-ctx.Done():
				return ctx.Err()
			}
		case value := <-b.say:
			if said.IsZero() {
				said = time.Now()
			}
			select {
			case producer.Input() <- &sarama.ProducerMessage{Topic: b.topic, Value: sarama.ByteEncoder(value)}:
			case <-ctx.Done():
				return ctx.Err()
			}
		case err := <-producer.Errors():
			return fmt.Errorf("writing: %w", err)
		case <-clock.C:
			if !said.IsZero() && time.Since(said) > stalled {
				return errStalled
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
