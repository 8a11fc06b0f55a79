package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Shopify/sarama"
)

var errShort = errors.New("the partition ends before what was read, or the topic is a new one")

const (
	never = math.MaxInt64 // the end of a partition that is followed
	// shortFor is how long a partition may end too early: for a moment it does while another broker
	// takes over.
	shortFor = 10 * time.Second
	endCheck = 50 * time.Millisecond
)

// A Partition is one that a Consumer reads.
type Partition struct {
	consumer  *Consumer
	partition int32
	ctx       context.Context
	stop      context.CancelFunc
	messages  chan *sarama.ConsumerMessage

	// Owned by the partition's goroutine.
	start     func(partition int32, offset int64, b Bounds) (int64, error) // nil: has been asked, or is not to be
	next, end int64                                                        // what is read next, and where it stops
	last      *sarama.ConsumerMessage                                      // the record before next; nil if it cannot be compared
	// Since when the partition has been too short; zero: it is not.
	short time.Time
}

// Messages is closed when the end is reached, when the context ends, and for a final error, which
// the Consumer's Err returns.
func (p *Partition) Messages() <-chan *sarama.ConsumerMessage { return p.messages }

// Close ends Messages(), and leaves away what is in it.
func (p *Partition) Close() error {
	p.stop()
	for range p.messages {
	}
	return nil
}

// run reads until the end or a final error; err is what the first look has returned.
func (p *Partition) run(err error) {
	defer close(p.messages)
	defer p.stop()
	wait := Wait{After: 2 * time.Second, Say: func(err error) {
		if err != nil {
			err = fmt.Errorf("%w; still trying", err)
		}
		p.consumer.Say(p.partition, err)
	}}
	for begun := time.Now(); ; err = p.find() {
		if err == nil {
			err = p.read(&wait)
		}
		switch {
		case err == nil, p.ctx.Err() != nil:
			return
		case errors.Is(err, ErrAnotherTopic) && !p.consumer.ToEnd:
			p.consumer.Say(p.partition, fmt.Errorf("%w; going on with its oldest record", err))
			p.next, p.last, p.short = sarama.OffsetOldest, nil, time.Time{}
			continue
		case KindOf(err) == Permanent, errors.Is(err, ErrAnotherTopic), p.consumer.Patience > 0 && time.Since(begun) > p.consumer.Patience && wait.pause > 0:
			p.consumer.fail(err)
			return
		}
		if wait.pause == 0 {
			begun = time.Now()
		}
		if !wait.Failed(p.ctx, err) {
			return
		}
		// The leader may be another one; if this fails, find says why.
		p.consumer.client.RefreshMetadata(p.consumer.topic)
	}
}

// find finds out where to go on.
func (p *Partition) find() error {
	b, err := bounds(p.consumer.client, p.consumer.topic, p.partition)
	if err != nil {
		return err
	}
	if p.start != nil {
		if p.next, err = p.start(p.partition, p.next, b); err != nil {
			return err
		}
		p.start = nil
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
	if must := max(p.next, 0); b.Newest < must || p.end != never && b.Newest < p.end {
		if p.short.IsZero() {
			p.short = time.Now()
		}
		if time.Since(p.short) > shortFor {
			return fmt.Errorf("partition %d of topic %q ends at offset %d: %w", p.partition, p.consumer.topic, b.Newest, ErrAnotherTopic)
		}
		return fmt.Errorf("partition %d of topic %q ends at offset %d: %w", p.partition, p.consumer.topic, b.Newest, errShort)
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
func (p *Partition) read(wait *Wait) error {
	if p.next >= p.end {
		return nil
	}
	session, err := p.consumer.session(p.partition)
	if err != nil {
		return err
	}
	from := p.next
	if p.last != nil {
		from = p.last.Offset
	}
	inner, err := session.ConsumePartition(p.consumer.topic, p.partition, from)
	if err != nil {
		return err
	}
	defer inner.Close()
	check := time.NewTicker(endCheck)
	defer check.Stop()
	for first := true; p.next < p.end; first = false {
		m, err := p.receive(session, inner, check.C, wait)
		if m == nil {
			return err
		}
		if first {
			wait.Worked()
			if p.last != nil && m.Offset == p.last.Offset && !same(m, p.last) {
				return fmt.Errorf("the record at offset %d of partition %d of topic %q differs from what was read: %w",
					m.Offset, p.partition, p.consumer.topic, ErrAnotherTopic)
			}
		}
		if m.Offset < p.next {
			continue
		}
		if m.Offset >= p.end {
			return nil
		}
		p.next, p.last = m.Offset+1, m
		select {
		case p.messages <- m:
		default: // the select above is much faster than this one
			select {
			case p.messages <- m:
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
	}
	return nil
}

// receive returns the next record, or nil: then the end is reached, if there is no error.
func (p *Partition) receive(session *Session, inner sarama.PartitionConsumer, check <-chan time.Time, wait *Wait) (*sarama.ConsumerMessage, error) {
	for {
		var m *sarama.ConsumerMessage
		open := true
		select {
		case m, open = <-inner.Messages():
		default: // the select above is much faster than this one
			select {
			case m, open = <-inner.Messages():
			case <-check:
				reached := session.Reached(p.partition)
				if reached >= 0 {
					wait.Worked()
				}
				if reached >= p.end {
					return nil, nil
				}
			case <-p.ctx.Done():
				return nil, p.ctx.Err()
			}
		}
		switch {
		case !open:
			return nil, session.Err()
		case m != nil:
			return m, nil
		}
	}
}

func same(a, b *sarama.ConsumerMessage) bool {
	return a.Timestamp.Equal(b.Timestamp) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}
