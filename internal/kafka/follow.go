package kafka

import (
	"context"
	"errors"
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
	cluster  *Cluster
	clientID string
	running  sync.WaitGroup // a goroutine for each partition

	mu  sync.Mutex // guards err
	err error      // the first final one
}

// NewConsumer returns a consumer that has not connected yet.
func (c *Cluster) NewConsumer(ctx context.Context, clientID string, how Following) *Consumer {
	r := &Consumer{Following: how, cluster: c, clientID: clientID}
	if r.Say == nil {
		r.Say = func(int32, error) {}
	}
	if r.Adjust == nil {
		r.Adjust = func(*sarama.Config) {}
	}
	r.ctx, r.end = context.WithCancel(ctx)
	return r
}

// ConsumePartition begins to read; what fails is tried again. Offset may be sarama.OffsetOldest or
// OffsetNewest.
func (c *Consumer) ConsumePartition(topic string, partition int32, offset int64) *Partition {
	p := &Partition{consumer: c, topic: topic, partition: partition, start: c.Start, next: offset, end: never, messages: make(chan *sarama.ConsumerMessage, 256)}
	session, err := p.open() // a first try, so that OffsetNewest is where the partition ends now
	c.running.Go(func() { p.run(session, err) })
	return p
}

// Err returns the first final error, nil if there was none.
func (c *Consumer) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the consumer, and waits until nothing of it is left.
func (c *Consumer) Close() {
	c.end()
	c.running.Wait()
}
