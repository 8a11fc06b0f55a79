package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Shopify/sarama"
)

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
	start     func(s *Session, partition int32, offset int64, b Bounds) (int64, error) // nil: has been asked, or is not to be
	next, end int64                                                                    // what is read next, and where it stops
	last      *sarama.ConsumerMessage                                                  // the record before next; nil if it cannot be compared
	short     time.Time                                                                // since when the partition has been too short; zero: it is not
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
	for begun := time.Now(); ; session, err = p.open() {
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
		case KindOf(err) == Permanent, errors.Is(err, ErrAnotherTopic), c.Patience > 0 && time.Since(begun) > c.Patience && wait.pause > 0:
			c.mu.Lock()
			if c.err == nil {
				c.err = c.cluster.Explain(err, "READ", p.topic)
			}
			c.mu.Unlock()
			return
		}
		if wait.pause == 0 {
			begun = time.Now()
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
	if p.start != nil {
		if p.next, err = p.start(session, p.partition, p.next, b); err != nil {
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
		select {
		case p.messages <- m:
			return nil
		case <-session.ctx.Done():
			return session.ctx.Err()
		}
	}, func(reached int64) error {
		wait.Worked()
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
