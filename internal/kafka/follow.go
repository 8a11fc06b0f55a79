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

// ErrAnotherTopic says that a topic was deleted and made again, or that Kafka has lost records: what
// is there now is not what was read.
var ErrAnotherTopic = errors.New("the topic is another one than was read, or Kafka has lost records")

var errShort = errors.New("the partition ends before what was read")

const (
	never = math.MaxInt64 // the end of a partition that is followed
	// shortFor is how long a partition may end too early: for a moment it does while another broker
	// takes over.
	shortFor = 10 * time.Second
	endCheck = 50 * time.Millisecond
)

// Following is how a Consumer follows.
type Following struct {
	// ToEnd ends each partition where it ends when it is opened.
	ToEnd bool
	// Patience, if not 0, is how long a partition may not be readable before its error is final.
	Patience time.Duration
	// Say is told what a partition waits for after two seconds, once for each reason and once a
	// minute, and with nil that it goes on. It is also told what was skipped, and that the topic is
	// another one, which is read from its oldest record on (ToEnd: that is final). Any goroutine calls it.
	Say func(partition int32, err error)
	// Adjust, if set, changes the settings of the connections.
	Adjust func(*sarama.Config)
}

// A Consumer reads partitions of one topic and goes on after faults, each partition by itself: it
// opens the partition again from the last record on, and compares that record.
type Consumer struct {
	Following
	ctx      context.Context // ends with the consumer
	end      context.CancelFunc
	cluster  *Cluster
	clientID string
	topic    string
	client   sarama.Client  // for questions
	running  sync.WaitGroup // a goroutine for each partition, and one for each session that is being closed

	mu       sync.Mutex         // guards what follows
	sessions map[int32]*Session // by the leader's number: one fetch at a time goes to a broker
	err      error              // the first final one
}

// NewConsumer returns a consumer that has not connected yet.
func (c *Cluster) NewConsumer(ctx context.Context, clientID, topic string, how Following) (*Consumer, error) {
	r := &Consumer{Following: how, cluster: c, clientID: clientID, topic: topic, sessions: make(map[int32]*Session)}
	if r.Say == nil {
		r.Say = func(int32, error) {}
	}
	r.ctx, r.end = context.WithCancel(ctx)
	config := c.Config(r.ctx, clientID)
	config.Metadata.Retry.Max = 0 // the goroutines of the partitions do that
	var err error
	if r.client, err = sarama.NewClient(c.Brokers, config); err != nil {
		r.end()
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	return r, nil
}

// ConsumePartition returns at once, also while the partition's leader is away. Offset may be
// sarama.OffsetOldest or OffsetNewest. Messages() is closed when the end is reached, when the
// context ends, and for a final error, which Err returns. Errors() is closed, and never used.
func (c *Consumer) ConsumePartition(topic string, partition int32, offset int64) (sarama.PartitionConsumer, error) {
	if topic != c.topic {
		return nil, fmt.Errorf("this consumer is for topic %q, not for %q", c.topic, topic)
	}
	p := &followed{Consumer: c, partition: partition, next: offset, end: never,
		messages: make(chan *sarama.ConsumerMessage, 256), errors: make(chan *sarama.ConsumerError)}
	close(p.errors)
	p.ctx, p.stop = context.WithCancel(c.ctx)
	err := p.find() // a first try, so that OffsetNewest is where the partition ends now
	c.running.Go(func() { p.run(err) })
	return p, nil
}

// Bounds asks the partition's leader where the partition begins and ends.
func (c *Consumer) Bounds(partition int32) (Bounds, error) {
	return bounds(c.client, c.topic, partition)
}

// OffsetAt asks the partition's leader for the offset of the first record that is not older than at.
// It is negative if all are older.
func (c *Consumer) OffsetAt(partition int32, at time.Time) (int64, error) {
	offset, err := c.client.GetOffset(c.topic, partition, at.UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("asking for the offset at %v in partition %d of topic %q: %w", at, partition, c.topic, err)
	}
	return offset, nil
}

// Err returns the first final error, nil if there was none.
func (c *Consumer) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the consumer, and waits until nothing of it is left.
func (c *Consumer) Close() error {
	c.end()
	c.running.Wait()
	for _, s := range c.sessions {
		s.Close()
	}
	return c.client.Close()
}

// session returns a session with the partition's leader.
func (c *Consumer) session(partition int32) (*Session, error) {
	leader, err := c.client.Leader(c.topic, partition)
	if err != nil {
		return nil, fmt.Errorf("looking for the leader of partition %d of topic %q: %w", partition, c.topic, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[leader.ID()]
	if s != nil && s.Err() == nil {
		return s, nil
	}
	if s != nil {
		c.running.Go(s.Close)
	}
	var adjust []func(*sarama.Config)
	if c.Adjust != nil {
		adjust = append(adjust, c.Adjust)
	}
	if s, err = c.cluster.NewSession(c.ctx, c.clientID, c.topic, adjust...); err == nil {
		c.sessions[leader.ID()] = s
	}
	return s, err
}

// followed is a partition that is followed. All but the channels belongs to its goroutine.
type followed struct {
	*Consumer
	ctx       context.Context
	stop      context.CancelFunc
	partition int32
	messages  chan *sarama.ConsumerMessage
	errors    chan *sarama.ConsumerError

	next, end int64 // what is read next, and where it stops
	last      *sarama.ConsumerMessage
	short     time.Time // since when the partition has been too short; zero: it is not
}

func (p *followed) Messages() <-chan *sarama.ConsumerMessage { return p.messages }
func (p *followed) Errors() <-chan *sarama.ConsumerError     { return p.errors }
func (p *followed) AsyncClose()                              { p.stop() }
func (p *followed) HighWaterMarkOffset() int64               { return 0 }
func (p *followed) Pause()                                   {}
func (p *followed) Resume()                                  {}
func (p *followed) IsPaused() bool                           { return false }
func (p *followed) Close() error {
	p.stop()
	for range p.messages {
	}
	return nil
}

// run reads until the end or a final error; err is what the first look has returned.
func (p *followed) run(err error) {
	defer close(p.messages)
	defer p.stop()
	wait := Wait{After: 2 * time.Second, Say: func(err error) {
		if err != nil {
			err = fmt.Errorf("%w; still trying", err)
		}
		p.Say(p.partition, err)
	}}
	for begun := time.Now(); ; err = p.find() {
		if err == nil {
			err = p.read(&wait)
		}
		switch {
		case err == nil, p.ctx.Err() != nil:
			return
		case errors.Is(err, ErrAnotherTopic) && !p.ToEnd:
			p.Say(p.partition, fmt.Errorf("%w; going on with its oldest record", err))
			p.next, p.last, p.short = sarama.OffsetOldest, nil, time.Time{}
			continue
		case KindOf(err) == Permanent, errors.Is(err, ErrAnotherTopic), p.Patience > 0 && time.Since(begun) > p.Patience && wait.pause > 0:
			p.mu.Lock()
			if p.err == nil {
				p.err = p.cluster.Explain(err, Read, p.topic)
			}
			p.mu.Unlock()
			return
		}
		if wait.pause == 0 {
			begun = time.Now()
		}
		if !wait.Failed(p.ctx, err) {
			return
		}
		p.client.RefreshMetadata(p.topic) // the leader may be another one; if this fails, find says why
	}
}

// find finds out where to go on.
func (p *followed) find() error {
	b, err := p.Bounds(p.partition)
	if err != nil {
		return err
	}
	switch p.next {
	case sarama.OffsetOldest:
		p.next = b.Oldest
	case sarama.OffsetNewest:
		p.next = b.Newest
	}
	if p.ToEnd && p.end == never {
		p.end = b.Newest
	}
	if must := max(p.next, 0); b.Newest < must || p.end != never && b.Newest < p.end {
		if p.short.IsZero() {
			p.short = time.Now()
		}
		if time.Since(p.short) > shortFor {
			return fmt.Errorf("partition %d of topic %q ends at offset %d: %w", p.partition, p.topic, b.Newest, ErrAnotherTopic)
		}
		return fmt.Errorf("partition %d of topic %q ends at offset %d: %w", p.partition, p.topic, b.Newest, errShort)
	}
	p.short = time.Time{}
	if p.next < b.Oldest {
		p.Say(p.partition, fmt.Errorf("offsets %d to %d were deleted before they were read; going on at %d", p.next, b.Oldest-1, b.Oldest))
		p.next, p.last = b.Oldest, nil
	} else if p.last != nil && p.last.Offset < b.Oldest {
		p.last = nil
	}
	return nil
}

// read hands records over until the end (nil) or a fault.
func (p *followed) read(wait *Wait) error {
	if p.next >= p.end {
		return nil
	}
	session, err := p.session(p.partition)
	if err != nil {
		return err
	}
	from := p.next
	if p.last != nil {
		from = p.last.Offset
	}
	inner, err := session.ConsumePartition(p.topic, p.partition, from)
	if err != nil {
		return err
	}
	defer inner.Close()
	check := time.NewTicker(endCheck)
	defer check.Stop()
	compare := p.last != nil
	for p.next < p.end {
		var m *sarama.ConsumerMessage
		var open bool
		select {
		case m, open = <-inner.Messages():
		default: // the select above is much faster than this one
			select {
			case m, open = <-inner.Messages():
			case <-check.C:
				if reached := session.Reached(p.partition); reached >= 0 {
					wait.Worked()
					if reached >= p.end {
						return nil
					}
				}
				continue
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
		if !open {
			return session.Err()
		}
		if compare {
			compare = false
			if m.Offset == p.last.Offset && !same(m, p.last) {
				return fmt.Errorf("the record at offset %d of partition %d of topic %q differs from what was read: %w", m.Offset, p.partition, p.topic, ErrAnotherTopic)
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
		default:
			select {
			case p.messages <- m:
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
	}
	return nil
}

func same(a, b *sarama.ConsumerMessage) bool {
	return a.Timestamp.Equal(b.Timestamp) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}
