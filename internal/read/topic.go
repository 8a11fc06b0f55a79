package read

import (
	"cmp"
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

// A Topic is the topic to read.
type Topic struct {
	Options
	cluster *kafka.Cluster
	name    string
	say     cli.Say

	first   int32        // number of partitions at the start; 0: kafkaread waited for the topic
	opening atomic.Int32 // how many of them are to be read and have no start yet
}

// Await returns the topic as soon as the topic exists. With -exit Await does not wait.
func Await(ctx context.Context, opt Options, cluster *kafka.Cluster, name string, say cli.Say) (*Topic, error) {
	wait := kafka.Wait{Say: func(err error) { say("%v; waiting for it", err) }}
	partitions, err := cluster.Lookup(ctx, name)
	t := &Topic{Options: opt, cluster: cluster, name: name, say: say, first: partitions}
	for err != nil {
		missing, said := errors.Is(err, sarama.ErrUnknownTopicOrPartition), err
		if missing {
			said = fmt.Errorf("%w; this makes it: TOPIC=%s go run ./kafkawrite", err, name)
		}
		if opt.Exit || kafka.KindOf(err) == kafka.Permanent || !wait.Failed(ctx, said) {
			return nil, cli.Unreached(said)
		}
		if n, again := cluster.Partitions(ctx, name); missing && again == nil && n == 0 {
			continue // Lookup asked for similar names once already
		}
		partitions, err = cluster.Lookup(ctx, name)
	}
	t.opening.Store(t.first)
	if opt.partition >= 0 {
		t.opening.Store(1)
	}
	return t, cli.CheckPartition(opt.partition, name, partitions)
}

// NewConsumer returns a consumer of the topic, which begins each partition where -offset says.
func (t *Topic) NewConsumer(ctx context.Context) *kafka.Consumer {
	how := kafka.Following{
		ToEnd: t.Exit,
		Start: func(s *kafka.Session, partition int32, usual int64, b kafka.Bounds) (int64, error) {
			return t.begin(ctx, s, partition, usual, b)
		},
		Say: func(partition int32, err error) {
			if err == nil {
				t.say("partition %d goes on", partition)
				return
			}
			it := fmt.Sprintf("partition %d of topic %q", partition, t.name)
			t.say("partition %d: %s", partition, strings.ReplaceAll(err.Error(), it, "it"))
		},
	}
	if t.Exit {
		how.Patience = 20 * time.Second // after this, an unreadable partition ends with an error
	}
	return t.cluster.NewConsumer(ctx, "kafkaread", how)
}

// Partitions are the partitions to read: those that exist, and without -exit those that are added
// until ctx ends.
func (t *Topic) Partitions(ctx context.Context) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		if t.partition >= 0 {
			yield(t.partition)
			return
		}
		for next, end := int32(0), max(1, t.first); ; {
			for ; next < end; next++ {
				if !yield(next) {
					return
				}
			}
			if t.Exit {
				return
			}
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				return
			}
			end, _ = t.cluster.Partitions(ctx, t.name) // the partitions that are read report errors
		}
	}
}

// begin returns the offset to start at: usual, unless -offset says otherwise. A partition that was
// added after the start of the program is read from its beginning.
func (t *Topic) begin(ctx context.Context, session *kafka.Session, partition int32, usual int64, b kafka.Bounds) (from int64, err error) {
	switch s := t.start; {
	case partition >= t.first:
		return b.Oldest, nil
	case s == nil:
		from = usual
	case s.newest > 0:
		from, err = t.newest(ctx, partition, s.newest, b)
	case !s.at.IsZero():
		from, err = session.Offset(partition, s.at.UnixMilli()) // OffsetNewest (-1) if all are older
	case s.offset > b.Newest:
		t.say("partition %d: there is no offset %d yet, the next one is %d; starting there (the topic may be a new one)", partition, s.offset, b.Newest)
		from = b.Newest
	default:
		from = s.offset
	}
	if err == nil && t.opening.Add(-1) == 0 && !t.Exit && (from == sarama.OffsetNewest || from == b.Newest) {
		t.say("printing what is written to %q from now on; Ctrl-C ends", t.name)
	}
	return from, err
}

// newest returns the offset of the first of the newest n records. It has to read these records,
// because offsets have holes: compacted records, and the markers that end transactions. If the read
// fails, the caller waits and says so.
func (t *Topic) newest(ctx context.Context, partition int32, n int64, b kafka.Bounds) (int64, error) {
	consumer := t.cluster.NewConsumer(ctx, "kafkaread", kafka.Following{ToEnd: true, Patience: time.Second})
	defer consumer.Close()
	for back := n; b.Oldest < b.Newest-n; back *= 2 {
		from := max(b.Oldest, b.Newest-back)
		var offsets []int64
		for record := range consumer.ConsumePartition(t.name, partition, from).Messages() {
			offsets = append(offsets, record.Offset)
		}
		if err := cmp.Or(consumer.Err(), ctx.Err()); err != nil {
			return 0, err
		}
		if extra := len(offsets) - int(n); extra >= 0 {
			return offsets[extra], nil
		}
		if from == b.Oldest {
			break
		}
	}
	return b.Oldest, nil
}
