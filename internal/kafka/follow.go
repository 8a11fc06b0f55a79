package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

// ErrAnotherTopic says that a topic was deleted and made again, or that Kafka has lost records:
// what is there now is not what was read.
var ErrAnotherTopic = errors.New("the topic is another one than was read, or Kafka has lost records")

// Following is how a Consumer follows.
type Following struct {
	// ToEnd ends each partition where it ends when it is opened.
	ToEnd bool
	// Patience, if not 0, is how long a partition may not be readable before its error is final.
	Patience time.Duration
	// Say is told what a partition waits for after two seconds, once for each reason and once a
	// minute, and with nil that it goes on. It is also told what was skipped, and that the topic is
	// another one, which is read from its oldest record on (ToEnd: that is final). Any goroutine
	// calls it.
	Say func(partition int32, err error)
	// Start, if set, says where a partition is begun that ConsumePartition was given this offset for.
	// It is asked once the partition's leader has answered, until it returns no error.
	Start func(session *Session, partition int32, offset int64, b Bounds) (int64, error)
	// Adjust, if set, changes the settings of the connections.
	Adjust func(*sarama.Config)
}

// A Consumer reads partitions and goes on after faults, each partition by itself: it opens another
// Session from the last record on, and compares that record.
type Consumer struct {
	Following
	ctx      context.Context // ends with the consumer
	end      context.CancelFunc
	failed   context.Context // ends with the first final error, which is its cause
	fail     context.CancelCauseFunc
	cluster  *Cluster
	clientID string
	running  sync.WaitGroup // a goroutine for each partition
}

// NewConsumer returns a consumer that has not connected yet.
func (c *Cluster) NewConsumer(ctx context.Context, clientID string, how Following) *Consumer {
	r := &Consumer{Following: how, cluster: c, clientID: clientID}
	if r.Say == nil {
		r.Say = func(int32, error) {}
	}
	r.ctx, r.end = context.WithCancel(ctx)
	r.failed, r.fail = context.WithCancelCause(context.Background())
	return r
}

// ConsumePartition begins to read; what fails is tried again. Offset may be sarama.OffsetOldest or
// OffsetNewest.
func (c *Consumer) ConsumePartition(topic string, partition int32, offset int64) *Partition {
	p := &Partition{consumer: c, topic: topic, partition: partition, begun: c.Start == nil, next: offset, end: never, messages: make(chan *sarama.ConsumerMessage, 256)}
	session, err := p.open() // a first try, so that OffsetNewest is where the partition ends now
	c.running.Go(func() { p.run(session, err) })
	return p
}

// Err returns the first final error, nil if there was none.
func (c *Consumer) Err() error { return context.Cause(c.failed) }

// Close ends the consumer, and waits until nothing of it is left.
func (c *Consumer) Close() {
	c.end()
	c.running.Wait()
}

var (
	errShort = errors.New("the partition ends before what was read, or the topic is a new one")
	errEnd   = errors.New("the end that was asked for")
)

const (
	never = math.MaxInt64 // the end of a partition that is followed
	// shortFor is how long a partition may end too early: for a moment it does while another broker
	// takes over.
	shortFor = 10 * time.Second
	slow     = 2 * time.Second // after this long it is said what a partition waits for
)

// A Partition is one that a Consumer reads.
type Partition struct {
	consumer  *Consumer
	topic     string
	partition int32
	messages  chan *sarama.ConsumerMessage

	// Owned by the partition's goroutine.
	begun     bool                    // the Consumer's Start need not be asked
	next, end int64                   // what is read next, and where it stops
	last      *sarama.ConsumerMessage // the record before next; nil if it cannot be compared
	short     time.Time               // since when the partition has been too short; zero: it is not
}

// Messages is closed when the end is reached, when the context ends, and for a final error, which
// the Consumer's Err returns.
func (p *Partition) Messages() <-chan *sarama.ConsumerMessage { return p.messages }

// run reads until the end or a final error; session and err are what open has returned first.
func (p *Partition) run(session *Session, err error) {
	c := p.consumer
	defer close(p.messages)
	wait := Wait{After: slow, Say: func(err error) {
		if err != nil {
			err = fmt.Errorf("%w; still trying", err)
		}
		c.Say(p.partition, err)
	}}
	for ; ; session, err = p.open() {
		if err == nil {
			err = p.read(session, &wait)
		}
		switch {
		case err == nil, c.ctx.Err() != nil:
			return
		case errors.Is(err, ErrAnotherTopic) && !c.ToEnd:
			c.Say(p.partition, fmt.Errorf("%w; going on with its oldest record", err))
			p.next, p.last, p.short = sarama.OffsetOldest, nil, time.Time{}
			continue
		case KindOf(err) == Permanent, errors.Is(err, ErrAnotherTopic), c.Patience > 0 && wait.pause > 0 && time.Since(wait.failed) > c.Patience:
			c.fail(c.cluster.Explain(err, "READ", p.topic))
			return
		}
		if !wait.Failed(c.ctx, err) {
			return
		}
	}
}

// open connects, and finds out where to go on.
func (p *Partition) open() (*Session, error) {
	session, err := p.consumer.cluster.NewSession(p.consumer.ctx, p.consumer.clientID, p.topic, p.consumer.Adjust)
	if err != nil {
		return nil, err
	}
	if err := p.find(session); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

func (p *Partition) find(session *Session) error {
	b, err := session.Bounds(p.partition)
	if err != nil {
		return err
	}
	if !p.begun {
		next, err := p.consumer.Start(session, p.partition, p.next, b)
		if err != nil {
			return err
		}
		p.next, p.begun = next, true
	}
	switch p.next {
	case sarama.OffsetOldest:
		p.next = b.Oldest
	case sarama.OffsetNewest:
		p.next = b.Newest
	}
	if p.consumer.ToEnd && p.end == never {
		p.end = b.Newest
	}
	if b.Newest < p.next || p.end != never && b.Newest < p.end {
		if p.short.IsZero() {
			p.short = time.Now()
		}
		reason := errShort
		if time.Since(p.short) > shortFor {
			reason = ErrAnotherTopic
		}
		return fmt.Errorf("partition %d of topic %q ends at offset %d: %w", p.partition, p.topic, b.Newest, reason)
	}
	p.short = time.Time{}
	if p.next < b.Oldest {
		p.consumer.Say(p.partition, fmt.Errorf("offsets %d to %d were deleted before they were read; going on at %d", p.next, b.Oldest-1, b.Oldest))
		p.next, p.last = b.Oldest, nil
	} else if p.last != nil && p.last.Offset < b.Oldest {
		p.last = nil
	}
	return nil
}

// read hands records over until the end (nil) or a fault.
func (p *Partition) read(session *Session, wait *Wait) error {
	defer session.Close()
	if p.next >= p.end {
		return nil
	}
	from := p.next
	if p.last != nil {
		from = p.last.Offset
	}
	err := session.fetch(p.partition, from, func(m *sarama.ConsumerMessage) error {
		switch {
		case p.last != nil && m.Offset == p.last.Offset && !same(m, p.last):
			return fmt.Errorf("the record at offset %d of partition %d of topic %q differs from what was read: %w",
				m.Offset, p.partition, p.topic, ErrAnotherTopic)
		case m.Offset < p.next:
			return nil
		case m.Offset >= p.end:
			return errEnd
		}
		p.next, p.last = m.Offset+1, m
		wait.Worked()
		return session.put(p.messages, m)
	}, func(reached, end int64) error {
		if reached >= end { // an answer that brings nothing of what there is, is none
			wait.Worked()
		}
		if reached >= p.end {
			return errEnd
		}
		return nil
	})
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

func same(a, b *sarama.ConsumerMessage) bool {
	return a.Timestamp.Equal(b.Timestamp) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}
