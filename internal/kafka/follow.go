package kafka

import (
	"context"
	"errors"
	"fmt"
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
	Start func(partition int32, offset int64, b Bounds) (int64, error)
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
	client   sarama.Client // for questions
	// A goroutine for each partition, and one for each session that is being closed.
	running sync.WaitGroup

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
// sarama.OffsetOldest or OffsetNewest.
func (c *Consumer) ConsumePartition(topic string, partition int32, offset int64) (*Partition, error) {
	if topic != c.topic {
		return nil, fmt.Errorf("this consumer is for topic %q, not for %q", c.topic, topic)
	}
	p := &Partition{consumer: c, partition: partition, start: c.Start, next: offset, end: never, messages: make(chan *sarama.ConsumerMessage, 256)}
	p.ctx, p.stop = context.WithCancel(c.ctx)
	err := p.find() // a first try, so that OffsetNewest is where the partition ends now
	c.running.Go(func() { p.run(err) })
	return p, nil
}

// OffsetAt asks the partition's leader for the offset of the first record that is not older than
// at. It is negative if all are older.
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

// fail keeps the first final error, as a sentence.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.cluster.Explain(err, Read, c.topic)
	}
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
