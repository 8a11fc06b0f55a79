package write

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

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
	state, err := cluster.Lookup(ctx, topic)
	if err == nil && state.Partitions == 0 {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		defer time.AfterFunc(slow, func() { say("waiting up to %v for the brokers to make topic %q", patience, topic) }).Stop()
		state, err = cluster.EnsureTopic(ctx, topic, nil)
	}
	switch {
	case err != nil && kafka.KindOf(err) == kafka.Permanent:
		return err
	case err != nil:
		return cli.Fail(cli.Unconnected, err)
	case partition >= state.Partitions:
		return cli.Fail(cli.Usage, fmt.Errorf("-partition %d: topic %q has partitions 0 to %d", partition, topic, state.Partitions-1))
	}
	if state.Made {
		say("there was no topic %q: made it%s", topic, cluster.Similar(ctx, topic))
	}
	return nil
}
