package read

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

const (
	slow     = 2 * time.Second  // after this long the person is told what is waited for
	patience = 20 * time.Second // with -exit, a partition that cannot be read for so long is given up
	look     = 3 * time.Second  // between two looks for partitions that are added
)

// Following returns how kafkaread follows: what a partition waits for is said.
func (opt Options) Following(topic string, say cli.Say) kafka.Following {
	how := kafka.Following{
		ToEnd:  opt.Exit,
		Say:    func(partition int32, err error) { tell(say, topic, partition, err) },
		Adjust: func(config *sarama.Config) { config.Consumer.Fetch.Default = 256 << 10 }, // bytes; short records take ten times as much memory
	}
	if opt.Exit {
		how.Patience = patience
	}
	return how
}

// tell says what has happened to a partition; nil: it goes on after it was waited for.
func tell(say cli.Say, topic string, partition int32, err error) {
	if err == nil {
		say("partition %d goes on", partition)
		return
	}
	say("partition %d: %s", partition, strings.ReplaceAll(err.Error(), fmt.Sprintf("partition %d of topic %q", partition, topic), "it"))
}

// A Topic is the topic that is read.
type Topic struct {
	Options
	cluster  *kafka.Cluster
	name     string
	consumer *kafka.Consumer // for questions
	say      cli.Say

	first   int32        // partitions that there were at the start; 0: the topic was waited for
	opening atomic.Int32 // those of them that are to be read and are not open yet
	newest  atomic.Bool  // only what comes is wanted
}

// missing says that there is no topic, which may pass soon.
type missing string

func (m missing) Error() string { return string(m) }
func (m missing) Unwrap() error { return sarama.ErrUnknownTopicOrPartition }

// Await returns the topic as soon as there is one; with -exit it does not wait.
func (opt Options) Await(ctx context.Context, cluster *kafka.Cluster, name string, consumer *kafka.Consumer, say cli.Say) (*Topic, error) {
	t := &Topic{Options: opt, cluster: cluster, name: name, consumer: consumer, say: say}
	wait := kafka.Wait{Say: func(err error) {
		if err != nil {
			say("%v; waiting for it", err)
		}
	}}
	for awaited := false; ; awaited = true {
		state, err := cluster.Lookup(ctx, name)
		if err == nil && state.Partitions > 0 {
			if opt.partition >= state.Partitions {
				return nil, cli.Fail(cli.Usage, fmt.Errorf("-partition %d: topic %q has partitions 0 to %d", opt.partition, name, state.Partitions-1))
			}
			if !awaited {
				t.first = state.Partitions
				t.opening.Store(t.first)
			}
			if opt.partition >= 0 {
				t.opening.Store(1)
			}
			return t, nil
		}
		if err == nil {
			err = missing(fmt.Sprintf("there is no topic %q; this makes it: TOPIC=%s go run ./kafkawrite%s", name, name, cluster.Similar(ctx, name)))
		}
		switch {
		case kafka.KindOf(err) == kafka.Permanent:
			return nil, err
		case opt.Exit && !errors.Is(err, sarama.ErrUnknownTopicOrPartition):
			return nil, cli.Fail(cli.Unconnected, err)
		case opt.Exit:
			return nil, err
		}
		if !wait.Failed(ctx, err) {
			return nil, ctx.Err()
		}
	}
}

// Partitions are the partitions to read: those that there are, and unless -exit says to stop at the
// end, those that are added, until ctx ends.
func (t *Topic) Partitions(ctx context.Context) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		if t.partition >= 0 {
			yield(t.partition)
			return
		}
		known, there := int32(0), max(1, t.first)
		for {
			for ; known < there; known++ {
				if !yield(known) {
					return
				}
			}
			if t.Exit {
				return
			}
			select {
			case <-time.After(look):
			case <-ctx.Done():
				return
			}
			if state, err := t.cluster.Lookup(ctx, t.name); err == nil {
				there = state.Partitions // if it is away, the partitions that are read say so
			}
		}
	}
}

// From returns the offset to start at: usual, unless -offset says otherwise. A partition that is
// newer than the program is read from its beginning. While the partition's leader is away it waits.
func (t *Topic) From(ctx context.Context, partition int32, usual int64) int64 {
	switch {
	case partition >= t.first:
		return sarama.OffsetOldest
	case t.start.end != 0:
		usual = t.start.end
		fallthrough
	case t.start == start{}:
		if usual == sarama.OffsetNewest {
			t.newest.Store(true)
		}
		return usual
	}
	wait := kafka.Wait{Say: func(err error) { tell(t.say, t.name, partition, err) }, After: slow}
	for begun := time.Now(); ; {
		offset, err := t.find(ctx, partition)
		if err == nil {
			wait.Worked()
			return offset
		}
		if kafka.KindOf(err) == kafka.Permanent || t.Exit && time.Since(begun) > patience || !wait.Failed(ctx, err) {
			return usual // the consumer meets the error, too
		}
	}
}

// Opened is told of each partition that is open. When all are, the person is told that what is
// written from now on will come.
func (t *Topic) Opened() {
	if t.opening.Add(-1) == 0 && t.newest.Load() && !t.Exit {
		t.say("printing what is written to %q from now on; Ctrl-C ends", t.name)
	}
}

// find looks once for where -offset is in the partition.
func (t *Topic) find(ctx context.Context, partition int32) (int64, error) {
	b, err := t.consumer.Bounds(partition)
	if err != nil {
		return 0, err
	}
	switch {
	case t.start.back > 0:
		return t.back(ctx, partition, b)
	case !t.start.time.IsZero():
		offset, err := t.consumer.OffsetAt(partition, t.start.time)
		if offset < 0 {
			offset = b.Newest // all are older
		}
		return offset, err
	case *t.start.offset < b.Oldest:
		t.say("partition %d: offset %d is gone, the oldest one is %d; starting there", partition, *t.start.offset, b.Oldest)
		return b.Oldest, nil
	case *t.start.offset > b.Newest:
		t.say("partition %d: there is no offset %d yet, the next one is %d; starting there", partition, *t.start.offset, b.Newest)
		return b.Newest, nil
	}
	return *t.start.offset, nil
}

// back returns the offset of the first of the newest records, as many as -offset says. Offsets have
// holes, of records that were compacted away and of the markers that end transactions, so these
// records have to be read.
func (t *Topic) back(ctx context.Context, partition int32, b kafka.Bounds) (int64, error) {
	n, all := t.start.back, b.Newest-b.Oldest
	if n >= all {
		return b.Oldest, nil
	}
	for back := n; ; back = min(2*back, all) {
		offsets, err := t.offsets(ctx, partition, b.Newest-back)
		if err != nil {
			return 0, err
		}
		if extra := int64(len(offsets)) - n; extra >= 0 {
			return offsets[extra], nil
		}
		if back == all {
			return b.Oldest, nil
		}
	}
}

// offsets returns those of the records from one offset on to the end.
func (t *Topic) offsets(ctx context.Context, partition int32, from int64) (offsets []int64, err error) {
	how := t.Following(t.name, t.say)
	how.ToEnd = true
	consumer, err := t.cluster.NewConsumer(ctx, "kafkaread", t.name, how)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	records, err := consumer.ConsumePartition(t.name, partition, from)
	if err != nil {
		return nil, err
	}
	for record := range records.Messages() {
		offsets = append(offsets, record.Offset)
	}
	if err := consumer.Err(); err != nil {
		return nil, err
	}
	return offsets, ctx.Err()
}
