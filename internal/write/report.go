package write

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// A Report counts lines, and says what becomes of them.
type Report struct {
	Say cli.Say

	read    int
	written atomic.Int64 // lines that are in Kafka, the first ones
	waiting atomic.Bool  // it was said that the next one is not
}

// Waiting says that the line after those that are written is not acknowledged yet, and why. Any
// goroutine may call it.
func (r *Report) Waiting(reason error) {
	r.waiting.Store(true)
	r.Say("line %d is not acknowledged yet: %v; waiting up to %v", r.written.Load()+1, reason, patience)
}

// Sent counts messages, the next lines, and err, which is what sending them has returned. It returns
// how the report ends if they are not all written.
func (r *Report) Sent(messages []*sarama.ProducerMessage, err error) error {
	r.read += len(messages)
	n := len(messages)
	if failed := (sarama.ProducerErrors)(nil); errors.As(err, &failed) {
		n -= len(failed)
		err = failed[0].Err
	} else if err != nil {
		n = 0
	}
	if n > 0 && r.waiting.Swap(false) {
		r.Say("line %d is acknowledged now", r.written.Load()+1)
	}
	r.written.Add(int64(n))
	if err != nil {
		return r.fail(err)
	}
	return nil
}

// End reports that all lines that were read are written; reason is why there are no more. It returns
// an error if that is a line that cannot be sent.
func (r *Report) End(reason error) error {
	blank := ""
	switch {
	case errors.Is(reason, io.EOF), errors.Is(reason, context.Canceled): // the latter: Ctrl-C
	case errors.Is(reason, errBlank):
		blank = ", up to a blank line (-blank writes such lines too)"
	default:
		r.read++
		return r.fail(reason)
	}
	r.Say("%d of %d lines written%s", r.written.Load(), r.read, blank)
	return nil
}

// fail is the report when the line after those that are written may not be.
func (r *Report) fail(reason error) error {
	written := r.written.Load()
	return fmt.Errorf("%d of %d lines written; line %d: %w", written, r.read, written+1, reason)
}

// Ensure makes the topic if it is missing, and returns an error if it does not have the partition.
func Ensure(ctx context.Context, cluster *kafka.Cluster, topic string, partition int32, say cli.Say) error {
	partitions, err := cluster.Lookup(ctx, topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		say("%v; making it within %v", err, patience)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var state kafka.State
		state, err = cluster.EnsureTopic(ctx, topic, nil)
		partitions = state.Partitions
	}
	if err != nil {
		return cli.Unreached(err)
	}
	return cli.CheckPartition(partition, topic, partitions)
}
