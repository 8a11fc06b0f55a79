package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/wire"
)

// ErrAnotherTopic says that a topic was deleted and made again, or that Kafka has lost records: the
// partition no longer has the records that were read.
var ErrAnotherTopic = errors.New("the topic is another one than was read, or Kafka has lost records")

var errStalled = errors.New("the broker has more records, but nothing arrives")

const (
	// sessionRetries is how often a session looks for a leader, every tenth of a second, before it
	// reports that there is none.
	sessionRetries = 10
	// stalledAfter is how long a broker may have records and send none.
	stalledAfter = 5 * time.Second
	// While a fetch waits at the broker, the fetch fails if the topic is deleted. If the next fetch comes
	// later than unwatched after that wait, because the caller is slow or the process was stopped, the
	// topic may have been made anew. So the newest record is read and compared once more.
	unwatched = 500 * time.Millisecond
)

// A Session reads a partition until the first fault or the end of its context. Then Messages() is
// closed, and Err says why.
//
// After a fault sarama's consumer goes on at its own offset, even if the topic was made anew
// meanwhile: this was measured, and comes without an error. So a Session sends the fetches itself.
// After a fault the caller opens a new Session, and calls Resume.
type Session struct {
	topic    string
	client   sarama.Client
	ctx      context.Context // ends with the session; its cause is what Err returns
	end      context.CancelCauseFunc
	fetching sync.WaitGroup
	messages chan *sarama.ConsumerMessage
	answered chan struct{} // capacity 1; a value says that fetched has been set
	fetched  atomic.Int64  // all records before this offset are in messages; -1: not known

	last         *sarama.ConsumerMessage // the first record must be this one, or follow it; nil: any
	batches      []byte                  // of the last answer to a fetch
	decompressor wire.Decompressor
}

// NewSession returns a session that has not connected yet. Adjust may change the settings.
func (c *Cluster) NewSession(ctx context.Context, clientID, topic string, adjust ...func(*sarama.Config)) (*Session, error) {
	s := &Session{topic: topic, answered: make(chan struct{}, 1)}
	s.fetched.Store(-1)
	s.ctx, s.end = context.WithCancelCause(ctx)
	config := c.Config(s.ctx, clientID)
	config.Net.Proxy.Dialer = &dialer{s.ctx, c.tls, func(batches []byte) { s.batches = batches }}
	config.Metadata.Retry.Max = sessionRetries
	config.Metadata.RefreshFrequency = 0 // fetches find dead connections
	for _, f := range adjust {
		f(config)
	}
	s.messages = make(chan *sarama.ConsumerMessage, config.ChannelBufferSize)
	var err error
	if s.client, err = sarama.NewClient(c.Brokers, config); err != nil {
		s.end(err)
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	return s, nil
}

// Offset asks the partition's leader for the offset of the first record that is not older than
// time, in milliseconds. The offset is negative if all records are older. Time may be
// sarama.OffsetOldest or OffsetNewest. Call Offset before ConsumePartition: later the answer waits
// until a fetch ends.
func (s *Session) Offset(partition int32, time int64) (int64, error) {
	offset, err := s.client.GetOffset(s.topic, partition, time)
	if err != nil {
		err = fmt.Errorf("asking partition %d of topic %q for an offset: %w", partition, s.topic, err)
	}
	return offset, err
}

// Bounds say where a partition begins and ends: Oldest is the offset of its first record, and
// Newest the offset that its next record gets.
type Bounds struct{ Oldest, Newest int64 }

// Resume returns the partition's bounds. The caller has read all records before offset next; last
// is the newest of them (nil: not known). If the partition is another one by now, this call or the
// session fails with ErrAnotherTopic. If the partition begins after next, records were deleted
// before they were read. (A leader that does not know the end of its partition yet does not
// answer.)
func (s *Session) Resume(partition int32, next int64, last *sarama.ConsumerMessage) (b Bounds, err error) {
	if b.Oldest, err = s.Offset(partition, sarama.OffsetOldest); err == nil {
		b.Newest, err = s.Offset(partition, sarama.OffsetNewest)
	}
	if err == nil && b.Newest < next {
		err = fmt.Errorf("partition %d of topic %q ends at offset %d: %w", partition, s.topic, b.Newest, ErrAnotherTopic)
	}
	if last != nil && last.Offset >= b.Oldest {
		s.last = last
	}
	return b, err
}

// ConsumePartition begins to read. It is called once, and returns the session itself.
func (s *Session) ConsumePartition(_ string, partition int32, offset int64) (_ *Session, err error) {
	if offset < 0 { // sarama.OffsetNewest or OffsetOldest
		if offset, err = s.Offset(partition, offset); err != nil {
			return nil, err
		}
	}
	s.fetching.Go(func() {
		defer close(s.messages)
		s.end(s.fetch(partition, offset, func(m *sarama.ConsumerMessage) error {
			return s.put(s.messages, m)
		}, func(next, end int64) error {
			if next > offset || next >= end { // an empty answer counts only at the end
				s.fetched.Store(next)
				select {
				case s.answered <- struct{}{}:
				default:
				}
			}
			return nil
		}))
	})
	return s, nil
}

// Messages returns the channel of the records. The channel is closed when the session ends.
func (s *Session) Messages() <-chan *sarama.ConsumerMessage { return s.messages }

// Answered gets a value after an answer to a fetch, when Reached may return a new offset.
func (s *Session) Answered() <-chan struct{} { return s.answered }

// Reached returns the offset before which all records have been received from Messages(). It is -1
// if there is more to receive, or if no fetch has brought records or shown that there are none.
// Reached counts what no consumer sees: markers of transactions, and offsets that compaction
// emptied. Only the goroutine that receives from Messages() may call Reached.
func (s *Session) Reached() int64 {
	if fetched := s.fetched.Load(); len(s.messages) == 0 {
		return fetched
	}
	return -1
}

// Err says why the session has ended, nil while it has not.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Close ends the session, and waits for its goroutine.
func (s *Session) Close() {
	s.end(nil)
	s.fetching.Wait()
	s.client.Close() // no error matters: nothing is left to write
}

// put sends m to messages. An error says that the session has ended.
func (s *Session) put(messages chan<- *sarama.ConsumerMessage, m *sarama.ConsumerMessage) error {
	select {
	case messages <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// fetch asks for records until something fails. Take gets the records from offset from on. After
// each answer, answered gets the offset before which take got all records, and the partition's end.
func (s *Session) fetch(partition int32, from int64, take func(*sarama.ConsumerMessage) error, answered func(next, end int64) error) (err error) {
	next := from
	defer func() {
		err = fmt.Errorf("reading partition %d of topic %q at offset %d: %w", partition, s.topic, next, err)
	}()
	wait := time.Duration(0) // the first answer comes at once, with records or without
	newest, checked := s.last, false
	for moved, sent := time.Now(), (time.Time{}); ; { // nothing was sent: a session begins with the comparison
		// Never twice in a row: a slow link could bring the same records for ever.
		if checked = newest != nil && !checked && time.Since(sent) > wait+unwatched; checked {
			s.last, next, from = newest, newest.Offset, max(from, newest.Offset+1)
		}
		sent = time.Now().Round(0) // without the monotonic clock, which stands still while the machine sleeps
		block, pause, err := s.ask(partition, next, wait)
		if err != nil {
			return err
		}
		wait = s.client.Config().Consumer.MaxWaitTime
		at := next
		if block != nil {
			next, err = s.decompressor.Messages(s.batches, at, func(m *sarama.ConsumerMessage) error {
				if last := s.last; last != nil && !continues(m, last) {
					return ErrAnotherTopic
				}
				s.last = nil
				if m.Offset < from {
					return nil
				}
				m.Topic, m.Partition = s.topic, partition
				newest = m
				return take(m)
			})
			if err == nil {
				err = answered(next, block.HighWaterMarkOffset)
			}
			if err != nil {
				return err
			}
		}
		if block == nil || next > at || block.HighWaterMarkOffset <= at {
			moved = time.Now()
		} else {
			pause = backoff // there is more, and the broker has sent nothing
		}
		if time.Since(moved) > stalledAfter {
			return errStalled
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
		}
	}
}

// ask sends one fetch from offset next on, and sets batches. It returns the partition's part of the
// answer, or nil and the pause that a quota demands.
func (s *Session) ask(partition int32, next int64, wait time.Duration) (*sarama.FetchResponseBlock, time.Duration, error) {
	leader, epoch, err := s.client.LeaderAndEpoch(s.topic, partition)
	if err != nil {
		return nil, 0, err
	}
	config := s.client.Config().Consumer
	request := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: sarama.MaxResponseSize, SessionEpoch: -1,
		MaxWaitTime: int32(wait / time.Millisecond), Isolation: config.IsolationLevel}
	request.AddBlock(s.topic, partition, next, config.Fetch.Default, epoch)
	response, err := leader.Fetch(request)
	if err != nil {
		return nil, 0, err
	}
	switch block := response.GetBlock(s.topic, partition); {
	case block != nil && block.Err == sarama.ErrNoError:
		return block, 0, nil
	case block != nil:
		return nil, 0, block.Err
	case response.ThrottleTime > 0:
		return nil, response.ThrottleTime, nil
	}
	return nil, 0, sarama.ErrIncompleteResponse
}

// continues says whether the partition is still the one that last was read from. m is its first
// record at the offset of last or after it. Compaction can only remove a record with a key.
func continues(m, last *sarama.ConsumerMessage) bool {
	if m.Offset > last.Offset {
		return last.Key != nil
	}
	return m.Timestamp.Equal(last.Timestamp) && bytes.Equal(m.Key, last.Key) && bytes.Equal(m.Value, last.Value)
}
