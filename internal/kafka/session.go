package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

var (
	errClosed  = errors.New("the session is closed")
	errLeader  = errors.New("the partition's leader is lost")
	errStalled = errors.New("the partition goes on, but nothing arrives")
)

const (
	// sessionRetries is how often a session looks for a leader, every tenth of a second, before it
	// reports that there is none. Consumers have no circuit breaker that would open by that.
	sessionRetries = 10
	// faultGrace is the time for sarama to say why a partition is lost, before only that is said.
	faultGrace = 20 * time.Millisecond
	// stalledAfter is how long a consumer may ask for the same offset though there are records.
	stalledAfter = 5 * time.Second
)

// A Session reads partitions of one topic until the first fault. The fault, or the end of its
// context, ends it as a whole: Messages() of its partition consumers are closed, and Err says why.
//
// sarama by itself would subscribe again after a fault, at its own offset, even if the topic is
// another one by then: measured, without an error. A Session never does. Whoever uses it opens
// another one, from the last record on, and compares that record.
type Session struct {
	topic    string
	client   sarama.Client
	consumer sarama.Consumer
	ctx      context.Context // ends with the session; its cause is what Err returns
	end      context.CancelCauseFunc
	drains   sync.WaitGroup // a goroutine for each partition: takes its errors

	mu         sync.Mutex // guards what follows
	partitions map[int32]*progress
}

// progress is how far a partition has been read.
type progress struct {
	consumer sarama.PartitionConsumer // nil until it is open
	offset   int64                    // of the newest fetch; everything before it is in Messages()
	received int64                    // what Reached returned last

	answered bool      // a fetch has been answered without an error
	more     bool      // the last answer spoke of records from offset on
	same     time.Time // since when offset has been asked for in vain; zero: it has not
}

// NewSession returns a session that has not connected yet. Adjust may change the settings.
func (c *Cluster) NewSession(ctx context.Context, clientID, topic string, adjust ...func(*sarama.Config)) (*Session, error) {
	s := &Session{topic: topic, partitions: make(map[int32]*progress)}
	s.ctx, s.end = context.WithCancelCause(ctx)
	config := c.config(s.ctx, clientID, c.warn, s)
	config.Metadata.Retry.Max = sessionRetries
	for _, f := range adjust {
		f(config)
	}
	// Its back-off is the one thing that sarama always does before it subscribes again.
	config.Consumer.Retry.BackoffFunc = func(int) time.Duration {
		time.AfterFunc(faultGrace, func() { s.end(errLeader) })
		return time.Hour // the partition consumer is being closed, and does not wait for this
	}
	var err error
	if s.client, err = sarama.NewClient(c.Brokers, config); err != nil {
		s.end(err)
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	if s.consumer, err = sarama.NewConsumerFromClient(s.client); err != nil {
		s.end(err)
		s.client.Close()
		return nil, fmt.Errorf("making a consumer: %w", err)
	}
	return s, nil
}

// Bounds asks the partition's leader where the partition begins and ends. It is for the time before
// ConsumePartition: after that the answer waits behind a fetch.
func (s *Session) Bounds(partition int32) (Bounds, error) {
	return bounds(s.client, s.topic, partition)
}

// ConsumePartition does what sarama's does. The partition consumer ends with the session, which
// takes its Errors().
func (s *Session) ConsumePartition(topic string, partition int32, offset int64) (sarama.PartitionConsumer, error) {
	p := &progress{offset: -1, received: -1}
	s.mu.Lock()
	s.partitions[partition] = p
	s.mu.Unlock()
	consumer, err := s.consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		return nil, fmt.Errorf("reading partition %d of topic %q from offset %d: %w", partition, topic, offset, err)
	}
	s.mu.Lock()
	p.consumer = consumer
	s.mu.Unlock()
	context.AfterFunc(s.ctx, consumer.AsyncClose)
	s.drains.Go(func() {
		for err := range consumer.Errors() {
			s.end(fmt.Errorf("reading partition %d of topic %q: %w", partition, topic, err.Err))
		}
	})
	return consumer, nil
}

// Reached returns the offset before which everything has been received from Messages(), -1 while no
// fetch has been answered. It counts what no consumer sees: markers of transactions, and what
// compaction has taken. Only the goroutine that receives from Messages() may call it.
func (s *Session) Reached(partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[partition]
	if p == nil || p.consumer == nil || !p.answered {
		return -1
	}
	// sarama asks for an offset when what comes before it is in the channel.
	if len(p.consumer.Messages()) == 0 {
		p.received = p.offset
	}
	return p.received
}

// Err says why the session has ended, nil while it has not.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Close ends the session and waits until nothing of it is left.
func (s *Session) Close() {
	s.end(errClosed)
	s.mu.Lock()
	var open []sarama.PartitionConsumer
	for _, p := range s.partitions {
		if p.consumer != nil {
			open = append(open, p.consumer)
		}
	}
	s.mu.Unlock()
	for _, p := range open {
		p.Close()
	}
	s.drains.Wait()
	s.consumer.Close()
	s.client.Close() // it has nothing to lose
}

// Fetching implements wire.Watch.
func (s *Session) Fetching(topic string, partition int32, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[partition]
	switch {
	case topic != s.topic || p == nil:
	case offset != p.offset:
		p.offset, p.more, p.same = offset, false, time.Time{}
	case !p.more:
		p.same = time.Time{}
	case p.same.IsZero():
		p.same = time.Now()
	case time.Since(p.same) > stalledAfter:
		s.end(fmt.Errorf("reading partition %d of topic %q at offset %d: %w", partition, topic, offset, errStalled))
	}
}

// Fetched implements wire.Watch. It comes before sarama closes anything because of the answer.
func (s *Session) Fetched(topic string, partition int32, code int16, highWaterMark int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[partition]
	switch err := sarama.KError(code); {
	case topic != s.topic || p == nil:
	case err != sarama.ErrNoError:
		s.end(fmt.Errorf("reading partition %d of topic %q: %w", partition, topic, err))
	default:
		p.answered, p.more = true, highWaterMark > p.offset
	}
}
