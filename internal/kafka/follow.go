package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

// Following says how a Consumer reads partitions.
type Following struct {
	// ToEnd stops reading at the end that the partition had when it was first opened.
	ToEnd bool
	// Patience, if not 0, is how long a partition may be unreadable before its error is final.
	Patience time.Duration
	// Say, if set, gets the reason when a partition has failed for two seconds, each reason once and
	// again once a minute. With nil the partition goes on. Say also gets the offsets that were
	// skipped, and ErrAnotherTopic: the new topic is read from its oldest record (with ToEnd, that
	// error is final). Any goroutine calls Say.
	Say func(partition int32, err error)
	// Start, if set, returns where a partition begins. Its offset is that of ConsumePartition. Start
	// is called when the partition's leader has answered, until Start returns no error.
	Start func(session *Session, partition int32, offset int64, b Bounds) (int64, error)
}

// A Consumer reads partitions. After a fault each partition goes on by itself: it opens a new
// Session from the last record on.
type Consumer struct {
	Following
	ctx      context.Context // ends with the consumer
	end      context.CancelFunc
	failed   context.Context // ends with the first final error, which is its cause
	fail     context.CancelCauseFunc
	cluster  *Cluster
	clientID string
	running  sync.WaitGroup // one goroutine for each partition
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

// ConsumePartition begins to read, and retries after faults. Offset may be sarama.OffsetOldest or
// OffsetNewest.
func (c *Consumer) ConsumePartition(topic string, partition int32, offset int64) *Partition {
	p := &Partition{consumer: c, topic: topic, partition: partition, begun: c.Start == nil, next: offset, end: never, messages: make(chan *sarama.ConsumerMessage, 256)}
	session, err := p.open() // already here, so that OffsetNewest is the end as of now
	c.running.Go(func() { p.run(session, err) })
	return p
}

// Err returns the first final error, nil if there was none.
func (c *Consumer) Err() error { return context.Cause(c.failed) }

// Close ends the consumer, and waits for its goroutines.
func (c *Consumer) Close() {
	c.end()
	c.running.Wait()
}

var errEnd = errors.New("the end that was asked for")

const never = math.MaxInt64 // the end of a partition that is read for ever

// A Partition is a partition that a Consumer reads.
type Partition struct {
	consumer  *Consumer
	topic     string
	partition int32
	messages  chan *sarama.ConsumerMessage

	// The goroutine of run owns these.
	begun     bool                    // Start has returned an offset, or there is no Start
	next, end int64                   // the next offset to read, and the one to stop at
	last      *sarama.ConsumerMessage // the record before next; nil: not known
}

// Messages is closed at the end, when the context ends, and after a final error. The Consumer's Err
// returns that error.
func (p *Partition) Messages() <-chan *sarama.ConsumerMessage { return p.messages }

// run reads until the end or a final error. Session and err are the results of the first open.
func (p *Partition) run(session *Session, err error) {
	defer close(p.messages)
	c := p.consumer
	wait := Wait{After: 2 * time.Second, Say: func(err error) {
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
		case errors.Is(err, errEnd), c.ctx.Err() != nil:
			return
		case errors.Is(err, ErrAnotherTopic) && !c.ToEnd:
			c.Say(p.partition, fmt.Errorf("%w; going on with its oldest record", err))
			p.next, p.last = sarama.OffsetOldest, nil
		case KindOf(err) == Permanent, errors.Is(err, ErrAnotherTopic), c.Patience > 0 && wait.pause > 0 && time.Since(wait.failed) > c.Patience:
			c.fail(c.cluster.Explain(err, "READ", p.topic))
			return
		default:
			wait.Failed(c.ctx, err)
		}
	}
}

// open connects, and finds the offset to go on at.
func (p *Partition) open() (*Session, error) {
	session, err := p.consumer.cluster.NewSession(p.consumer.ctx, p.consumer.clientID, p.topic)
	if err == nil {
		if err = p.find(session); err != nil {
			session.Close()
		}
	}
	return session, err
}

func (p *Partition) find(session *Session) error {
	next := p.next
	if p.end != never {
		next = p.end
	}
	b, err := session.Resume(p.partition, next, p.last)
	if err != nil {
		return err
	}
	if !p.begun {
		if p.next, err = p.consumer.Start(session, p.partition, p.next, b); err != nil {
			return err
		}
		p.begun = true
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
	if p.next < b.Oldest {
		p.consumer.Say(p.partition, fmt.Errorf("offsets %d to %d were deleted before they were read; going on at %d", p.next, b.Oldest-1, b.Oldest))
		p.next, p.last = b.Oldest, nil
	}
	return nil
}

// read sends records to messages until the end or a fault.
func (p *Partition) read(session *Session, wait *Wait) error {
	defer session.Close()
	if p.next >= p.end {
		return errEnd
	}
	return session.fetch(p.partition, p.next, func(m *sarama.ConsumerMessage) error {
		if m.Offset >= p.end {
			return errEnd
		}
		p.next, p.last = m.Offset+1, m
		wait.Worked()
		return session.put(p.messages, m)
	}, func(next, end int64) error {
		if next >= end { // an empty answer is a success only at the end
			wait.Worked()
		}
		if next >= p.end {
			return errEnd
		}
		return nil
	})
}
