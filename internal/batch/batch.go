// Package batch sends many records to Kafka in one piece.
//
// SendMessages of sarama 1.38.1 cannot be believed when something fails. It sends the first message alone and the others
// behind it, before it knows what became of the first: plain, a retry doubles and reorders records; idempotent, records
// were lost that had been acknowledged. SendMessages of this package makes one record batch (the unit that a broker
// stores as a whole or not at all), with the producer id and the sequence number by which a broker knows it again, and
// keeps sending these same bytes until a broker says that it has them. Until then nothing else is sent. So nothing can be
// overtaken, and a copy that was stored before its answer got lost is stored once.
package batch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Shopify/sarama"
)

const (
	// backoff is the pause before something that failed is tried again.
	backoff = 100 * time.Millisecond
	// ackTimeout is how long a broker waits for its followers; less than the time after which the connection is given up.
	ackTimeout = 2 * time.Second
)

// A Producer is a SyncProducer whose SendMessages sends one record batch. Its other methods are those of the producer that
// it was made from. It is for one goroutine.
type Producer struct {
	sarama.SyncProducer
	ctx       context.Context
	client    sarama.Client
	topic     string
	partition int32

	id       *sarama.InitProducerIDResponse // nil: to be asked for
	sequence int32                          // of the next record
	most     int                            // records in a batch, after the broker found one too large
}

// NewProducer returns a Producer for one partition. It tries for as long as ctx lives, which should be the context of the
// client's connections too. Closing it closes producer, not client.
func NewProducer(ctx context.Context, producer sarama.SyncProducer, client sarama.Client, topic string, partition int32) *Producer {
	return &Producer{SyncProducer: producer, ctx: ctx, client: client, topic: topic, partition: partition, most: math.MaxInt32}
}

// SendMessages returns when all messages are stored, in their order, one after another. Otherwise the error is of type
// sarama.ProducerErrors and has the messages at the end of which that cannot be said.
func (p *Producer) SendMessages(messages []*sarama.ProducerMessage) error {
	for len(messages) > 0 {
		n := min(len(messages), p.most)
		err := p.send(messages[:n])
		switch {
		case err == nil:
			messages = messages[n:]
		case errors.Is(err, sarama.ErrMessageSizeTooLarge) && n > 1:
			p.most = n / 2 // the topic's limit is lower than usual
		default:
			var failed sarama.ProducerErrors
			for _, m := range messages {
				failed = append(failed, &sarama.ProducerError{Msg: m, Err: err})
			}
			return failed
		}
	}
	return nil
}

// send sends one record batch until a broker says that it is stored.
func (p *Producer) send(messages []*sarama.ProducerMessage) error {
	records, err := newRecords(messages)
	if err != nil {
		return err
	}
	now := time.Now()
	batch := &sarama.RecordBatch{
		Version:         2,
		FirstTimestamp:  now,
		MaxTimestamp:    now,
		LastOffsetDelta: int32(len(records) - 1),
		Records:         records,
	}
	for {
		if err := p.identify(batch); err != nil {
			return err
		}
		block, err := p.produce(batch)
		if err == nil {
			switch err = block.Err; block.Err {
			case sarama.ErrNoError, sarama.ErrDuplicateSequenceNumber:
				p.sequence += int32(len(messages))
				for i, m := range messages {
					m.Offset = block.Offset + int64(i)
				}
				return nil
			case sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch:
				// The partition does not know what this producer sent last. A broker takes that from the log itself, so
				// this batch is not in it either, and may be sent under a new id.
				p.id = nil
			case sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrUnknownTopicOrPartition,
				sarama.ErrReplicaNotAvailable, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
				sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrRequestTimedOut,
				sarama.ErrNetworkException, sarama.ErrKafkaStorageError, sarama.ErrInvalidMessage: // the last: damaged on the way
			default:
				return block.Err
			}
		}
		if err := p.pause(err); err != nil {
			return err
		}
	}
}

// identify gives the batch its producer id and sequence number, if it has none.
func (p *Producer) identify(batch *sarama.RecordBatch) error {
	if p.id != nil && p.sequence > math.MaxInt32-int32(len(batch.Records)) {
		p.id = nil // sequence numbers would start again; nothing is under way, so a new id may start with 0 as well
	}
	for p.id == nil {
		id, err := p.client.InitProducerID()
		if err == nil && id.Err != sarama.ErrNoError {
			err = id.Err // a broker that has just started has none to give for a moment
		}
		if err == nil {
			p.id, p.sequence = id, 0
			break
		}
		if err := p.pause(fmt.Errorf("no producer id: %w", err)); err != nil {
			return err
		}
	}
	batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = p.id.ProducerID, p.id.ProducerEpoch, p.sequence
	return nil
}

// produce sends the batch once. After an error of its own, rather than of the block, the batch may or may not be stored.
func (p *Producer) produce(batch *sarama.RecordBatch) (*sarama.ProduceResponseBlock, error) {
	leader, err := p.client.Leader(p.topic, p.partition)
	if err != nil {
		return nil, err
	}
	request := &sarama.ProduceRequest{
		Version:      3,
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(ackTimeout / time.Millisecond),
	}
	request.AddBatch(p.topic, p.partition, batch)
	response, err := leader.Produce(request)
	if err != nil {
		leader.Close() // its next use opens a new connection
		return nil, err
	}
	block := response.GetBlock(p.topic, p.partition)
	if block == nil {
		return nil, sarama.ErrIncompleteResponse
	}
	return block, nil
}

// pause waits before the next attempt and learns who leads the partition now. It returns reason if there is to be no next
// attempt.
func (p *Producer) pause(reason error) error {
	select {
	case <-time.After(backoff):
		p.client.RefreshMetadata(p.topic) // an error shows again when the leader is asked for
	case <-p.ctx.Done():
	}
	if p.ctx.Err() != nil {
		return reason
	}
	return nil
}

func newRecords(messages []*sarama.ProducerMessage) ([]*sarama.Record, error) {
	all := make([]sarama.Record, len(messages))
	records := make([]*sarama.Record, len(messages))
	for i, m := range messages {
		r := &all[i]
		r.OffsetDelta = int64(i)
		var err error
		if m.Key != nil {
			if r.Key, err = m.Key.Encode(); err != nil {
				return nil, err
			}
		}
		if m.Value != nil {
			if r.Value, err = m.Value.Encode(); err != nil {
				return nil, err
			}
		}
		for j := range m.Headers {
			r.Headers = append(r.Headers, &m.Headers[j])
		}
		records[i] = r
	}
	return records, nil
}
