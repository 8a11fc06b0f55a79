package presence

import (
	"context"
	"fmt"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

// stayConnected writes this pod's records and reads the records of all pods, this one included,
// until ctx ends. After each fault it connects again.
func (p *Presence) stayConnected(ctx context.Context) {
	wait := kafka.Wait{Say: func(err error) {
		switch {
		case err == nil:
			p.log.Info("the topic of the pods can be read again", "topic", p.topic)
		case kafka.KindOf(err) == kafka.Passing: // the reader of the chat logs why
			p.log.Debug("the topic of the pods cannot be read for now", "topic", p.topic, "err", err)
		default:
			p.log.Warn("the topic of the pods cannot be read for now", "topic", p.topic, "err", err)
		}
	}, After: 2 * time.Second}
	for wait.Failed(ctx, p.work(ctx, wait.Worked)) {
	}
}

// work connects, then writes and reads until a fault. It calls worked for each record that it
// reads.
func (p *Presence) work(ctx context.Context, worked func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(10*time.Second, cancel)
	defer late.Stop()
	// A record is useful for some seconds only. The topic is not compacted: no pod reads old
	// records.
	if _, err := p.cluster.EnsureTopic(ctx, p.topic, map[string]string{
		"cleanup.policy":    "delete",
		"max.message.bytes": "16384",   // of a batch: some records of 2 KiB
		"retention.ms":      "600000",  // ten minutes, for an operator with kafkaread
		"retention.bytes":   "1048576", // 1 MiB, and as much in the segment that is being written
		"segment.bytes":     "1048576", // the least that Kafka 4 takes
	}); err != nil {
		return err
	}
	session, err := p.cluster.NewSession(ctx, p.clientID, p.topic, func(config *sarama.Config) {
		// The buffers stay small, also if other programs write large records to the topic.
		config.Consumer.Fetch.Default = 32 << 10
		config.ChannelBufferSize = 4
	})
	if err != nil {
		return err
	}
	defer session.Close()
	if _, err := session.ConsumePartition(p.topic, 0, sarama.OffsetNewest); err != nil {
		return err
	}
	config := p.cluster.Config(ctx, p.clientID) // on connections of its own: a fetch delays the requests after it
	config.Metadata.Retry.Max = 10              // for a topic without a leader: a second
	config.Metadata.RefreshFrequency = 0        // the records find dead connections
	config.Producer.RequiredAcks = sarama.WaitForLocal
	config.Producer.Return.Successes = false // a record that has come back is success enough
	producer, err := sarama.NewAsyncProducer(p.cluster.Brokers, config)
	if err != nil {
		return fmt.Errorf("making a producer: %w", err)
	}
	defer producer.Close()
	defer cancel() // runs before the other two: it ends what they wait for
	late.Stop()
	p.join()
	for {
		select {
		case message, ok := <-session.Messages():
			if !ok {
				return session.Err()
			}
			worked()
			p.hear(message.Value)
		case value := <-p.say:
			producer.Input() <- &sarama.ProducerMessage{Topic: p.topic, Value: sarama.ByteEncoder(value)}
		case err := <-producer.Errors():
			return fmt.Errorf("writing: %w", err)
		}
	}
}
