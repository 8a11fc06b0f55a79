package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"
)

var (
	errStalled = errors.New("the partition goes on, but nothing arrives")
	errFormat  = errors.New("its records are of format 0 or 1 (message.format.version), which this program does not read")
)

const (
	// sessionRetries is how often a session looks for a leader, every tenth of a second, before it
	// reports that there is none.
	sessionRetries = 10
	// stalledAfter is how long a broker may have records and send none.
	stalledAfter = 5 * time.Second
)

// A Session reads a partition until the first fault. The fault, or the end of its context, ends it:
// Messages() is closed, and Err says why.
//
// sarama's consumer subscribes again after a fault, at its own offset, even if the topic is another
// one by then: measured, without an error. So a Session sends the fetches itself. Whoever uses it
// opens another one, from the last record on, and compares that record.
type Session struct {
	topic    string
	client   sarama.Client
	ctx      context.Context // ends with the session; its cause is what Err returns
	end      context.CancelCauseFunc
	fetching sync.WaitGroup
	messages chan *sarama.ConsumerMessage
	answered chan struct{} // capacity 1
	fetched  atomic.Int64  // what is before this offset has been put into messages; -1: no fetch has been answered
	reached  int64         // what Reached returned last
}

// NewSession returns a session that has not connected yet. Adjust may change the settings.
func (c *Cluster) NewSession(ctx context.Context, clientID, topic string, adjust ...func(*sarama.Config)) (*Session, error) {
	s := &Session{topic: topic, answered: make(chan struct{}, 1), reached: -1}
	s.fetched.Store(-1)
	s.ctx, s.end = context.WithCancelCause(ctx)
	config := c.Config(s.ctx, clientID)
	config.Metadata.Retry.Max = sessionRetries
	config.Metadata.RefreshFrequency = 0 // its fetches find dead connections
	for _, f := range adjust {
		if f != nil {
			f(config)
		}
	}
	s.messages = make(chan *sarama.ConsumerMessage, config.ChannelBufferSize)
	var err error
	if s.client, err = sarama.NewClient(c.Brokers, config); err != nil {
		s.end(err)
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	return s, nil
}

// Bounds are where a partition begins and ends: Oldest is the offset of its first record, Newest
// that which its next record gets.
type Bounds struct {
	Oldest, Newest int64
	Asked          time.Time // the answer was given after this
}

// Bounds asks the partition's leader where the partition begins and ends. It is for the time before
// ConsumePartition: after that the answer waits behind a fetch.
func (s *Session) Bounds(partition int32) (b Bounds, err error) {
	b.Asked = time.Now()
	if b.Oldest, err = s.client.GetOffset(s.topic, partition, sarama.OffsetOldest); err == nil {
		b.Newest, err = s.client.GetOffset(s.topic, partition, sarama.OffsetNewest)
	}
	if err != nil {
		err = fmt.Errorf("asking where partition %d of topic %q begins and ends: %w", partition, s.topic, err)
	}
	return b, err
}

// OffsetAt asks the partition's leader for the offset of the first record that is not older than
// at. It is negative if all are older.
func (s *Session) OffsetAt(partition int32, at time.Time) (int64, error) {
	offset, err := s.client.GetOffset(s.topic, partition, at.UnixMilli())
	if err != nil {
		err = fmt.Errorf("asking for the offset at %v in partition %d of topic %q: %w", at, partition, s.topic, err)
	}
	return offset, err
}

// ConsumePartition begins to read. It is called once, and returns the session itself.
func (s *Session) ConsumePartition(topic string, partition int32, offset int64) (*Session, error) {
	if offset < 0 { // sarama.OffsetNewest or OffsetOldest
		var err error
		if offset, err = s.client.GetOffset(topic, partition, offset); err != nil {
			return nil, fmt.Errorf("asking where partition %d of topic %q begins or ends: %w", partition, topic, err)
		}
	}
	s.fetching.Go(func() {
		defer close(s.messages)
		s.end(s.fetch(partition, offset, func(m *sarama.ConsumerMessage) error {
			return s.put(s.messages, m)
		}, func(reached, _ int64) error {
			s.fetched.Store(reached)
			select {
			case s.answered <- struct{}{}:
			default:
			}
			return nil
		}))
	})
	return s, nil
}

// Messages are the records. It is closed when the session ends.
func (s *Session) Messages() <-chan *sarama.ConsumerMessage { return s.messages }

// Answered gets something when Reached may return another offset than after the last record.
func (s *Session) Answered() <-chan struct{} { return s.answered }

// Reached returns the offset before which everything has been received from Messages(), -1 while no
// fetch has been answered. It counts what no consumer sees: markers of transactions, and what
// compaction has taken. Only the goroutine that receives from Messages() may call it.
func (s *Session) Reached() int64 {
	if fetched := s.fetched.Load(); len(s.messages) == 0 {
		s.reached = fetched
	}
	return s.reached
}

// Err says why the session has ended, nil while it has not.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Close ends the session and waits until nothing of it is left.
func (s *Session) Close() {
	s.end(nil)
	s.fetching.Wait()
	s.client.Close() // it has nothing to lose
}

// put waits until messages takes m. An error says that the session has ended.
func (s *Session) put(messages chan<- *sarama.ConsumerMessage, m *sarama.ConsumerMessage) error {
	select {
	case messages <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// pause waits for as long as d, or until the session ends.
func (s *Session) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

// fetch asks for records from offset on until something fails. It hands them to take, and after
// each answer reached gets the offset before which everything has been handed over, and where the
// partition ended then.
func (s *Session) fetch(partition int32, offset int64, take func(*sarama.ConsumerMessage) error, reached func(offset, end int64) error) error {
	fail := func(err error) error {
		return fmt.Errorf("reading partition %d of topic %q at offset %d: %w", partition, s.topic, offset, err)
	}
	leader, epoch, err := s.client.LeaderAndEpoch(s.topic, partition)
	if err != nil {
		return fail(err)
	}
	config := s.client.Config().Consumer
	wait := int32(0) // the first answer says whether there is anything
	for moved := time.Now(); ; {
		request := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: sarama.MaxResponseSize, SessionEpoch: -1,
			MaxWaitTime: wait, Isolation: config.IsolationLevel}
		wait = int32(config.MaxWaitTime / time.Millisecond)
		request.AddBlock(s.topic, partition, offset, config.Fetch.Default, epoch)
		response, err := leader.Fetch(request)
		if err != nil {
			return fail(err)
		}
		block := response.GetBlock(s.topic, partition)
		switch {
		case block == nil && response.ThrottleTime > 0: // as a quota has it
			s.pause(response.ThrottleTime)
			moved = time.Now()
			continue
		case block == nil:
			return fail(sarama.ErrIncompleteResponse)
		case block.Err != sarama.ErrNoError:
			return fail(block.Err)
		}
		next, err := s.handOver(block, partition, offset, take)
		if err == nil {
			err = reached(next, block.HighWaterMarkOffset)
		}
		if err != nil {
			return err
		}
		if next > offset || block.HighWaterMarkOffset <= offset {
			moved = time.Now()
		} else if time.Since(moved) > stalledAfter {
			return fail(errStalled)
		} else {
			s.pause(backoff)
		}
		offset = next
	}
}

// handOver hands the records of an answer to take, but for those before offset. It returns the
// offset to ask for next.
func (s *Session) handOver(block *sarama.FetchResponseBlock, partition int32, offset int64, take func(*sarama.ConsumerMessage) error) (next int64, err error) {
	next = offset
	for _, records := range block.RecordsSet {
		b := records.RecordBatch
		if b == nil {
			return 0, fmt.Errorf("partition %d of topic %q at offset %d: %w", partition, s.topic, next, errFormat)
		}
		if b.PartialTrailingRecord {
			break
		}
		for _, r := range b.Records {
			at := b.FirstOffset + r.OffsetDelta
			if b.Control || at < offset {
				continue
			}
			m := &sarama.ConsumerMessage{Topic: s.topic, Partition: partition, Offset: at, Key: r.Key, Value: r.Value, Headers: r.Headers,
				Timestamp: b.FirstTimestamp.Add(r.TimestampDelta)}
			if b.LogAppendTime {
				m.Timestamp = b.MaxTimestamp
			}
			if err := take(m); err != nil {
				return 0, err
			}
		}
		next = max(next, b.LastOffset()+1)
	}
	// The last batch is not in RecordsSet if it is cut, or if compaction has emptied it: such a one is
	// moved to its last offset by package wire.
	if last := block.LastRecordsBatchOffset; last != nil && len(block.RecordsSet) == 0 {
		next = max(next, *last+1)
	} else if last != nil {
		next = max(next, *last)
	}
	return next, nil
}
