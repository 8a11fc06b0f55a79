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

// A Report counts lines, and says what became of them.
type Report struct {
	say     cli.Say
	read    int
	written atomic.Int64 // lines that are in Kafka, the first ones
}

// NewReport returns a report of no lines.
func NewReport(say cli.Say) *Report { return &Report{say: say} }

// Waiting says that the line after those that are written is not acknowledged yet, and why; with
// nil, that it is now. Any goroutine may call it.
func (r *Report) Waiting(reason error) {
	line := r.written.Load() + 1
	if reason == nil {
		r.say("line %d is acknowledged now", line)
		return
	}
	r.say("line %d is not acknowledged yet: %v; waiting up to %v", line, reason, patience)
}

// Sent counts messages, the next lines, and err, which is what sending them has returned. It returns
// how the report ends if they are not all written.
func (r *Report) Sent(messages []*sarama.ProducerMessage, err error) error {
	r.read += len(messages)
	var failed sarama.ProducerErrors
	switch {
	case err == nil:
		r.written.Add(int64(len(messages)))
		return nil
	case errors.As(err, &failed):
		r.written.Add(int64(len(messages) - len(failed)))
		err = failed[0].Err
	}
	return r.fail(err)
}

// End reports that all lines that were read are written; reason is why there are no more. It returns
// an error if that is a line that cannot be sent.
func (r *Report) End(reason error) error {
	switch {
	case errors.Is(reason, io.EOF), errors.Is(reason, context.Canceled): // the latter: Ctrl-C
		r.say("%d of %d lines written", r.written.Load(), r.read)
		return nil
	case errors.Is(reason, errBlank):
		r.say("%d of %d lines written, up to a blank line (-blank writes such lines too)", r.written.Load(), r.read)
		return nil
	}
	r.read++
	return r.fail(reason)
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
