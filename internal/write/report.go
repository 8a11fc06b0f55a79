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

// A Report counts lines, and says which are written. Any goroutine may use it.
type Report struct {
	Say cli.Say

	read    atomic.Int64 // also lines that wait behind others
	written atomic.Int64 // the first lines, which are in Kafka
	late    atomic.Bool  // waiting has reported the next line
}

func (r *Report) waiting(reason error) {
	r.late.Store(true)
	r.Say("line %d is not acknowledged yet: %v; waiting up to %v", r.written.Load()+1, reason, patience)
}

func (r *Report) stored(lines int) {
	if r.late.Swap(false) {
		r.Say("line %d is acknowledged now", r.written.Load()+1)
	}
	r.written.Add(int64(lines))
}

// Interrupted is called at the first Ctrl-C. It says which line is not acknowledged yet.
func (r *Report) Interrupted() {
	if next := r.written.Load() + 1; next <= r.read.Load() {
		r.Say("line %d is not acknowledged yet; waiting up to %v, Ctrl-C again ends at once", next, patience)
	}
}

// Fail returns the end of the report when the line after the written ones may not be written.
// Reason says why.
func (r *Report) Fail(reason error) error {
	if failed := (sarama.ProducerErrors)(nil); errors.As(reason, &failed) {
		reason = failed[0].Err
	}
	written := r.written.Load()
	return fmt.Errorf("%d of %d lines written; line %d: %w", written, r.read.Load(), written+1, reason)
}

// End reports that all lines that were read are written. Reason is why no line follows. End returns
// an error if reason is a line that cannot be sent.
func (r *Report) End(reason error) error {
	blank := ""
	switch {
	case errors.Is(reason, io.EOF), errors.Is(reason, context.Canceled): // the latter: Ctrl-C
	case errors.Is(reason, errBlank):
		blank = ", up to a blank line (-blank writes such lines too)"
	default:
		r.read.Add(1)
		return r.Fail(reason)
	}
	r.Say("%d of %d lines written%s", r.written.Load(), r.read.Load(), blank)
	return nil
}

// Ensure makes the topic if it is missing, and returns an error if topic does not have partition.
func Ensure(ctx context.Context, cluster *kafka.Cluster, topic string, partition int32, say cli.Say) error {
	partitions, err := cluster.Lookup(ctx, topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		say("%v; making it", err)
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
