package write

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

const (
	slow     = 2 * time.Second // after this long the person is told what is waited for
	patience = 2 * time.Minute // after this long without an acknowledgement it is given up
	// ackTimeout is how long a broker waits for its followers; less than the time after which the
	// connection is given up.
	ackTimeout = 2 * time.Second
)

var errNoAnswer = errors.New("the broker does not answer")

// A producer is a sarama.SyncProducer, without transactions, that can be believed when something
// fails. sarama 1.38.1's own cannot: plain, its retries double and reorder records; idempotent,
// records were lost that had been acknowledged, and it sends without a pause. This one makes one
// record batch (the unit that a broker stores as a whole or not at all), with the producer id and the
// sequence number by which a broker knows it again, and keeps sending these same bytes until a broker
// says that it has them. Until then nothing else is sent. So nothing can be overtaken, and a copy
// that was stored before its answer got lost is stored once. It is for one goroutine.
type producer struct {
	sarama.SyncProducer // nil: nobody calls its other methods
	cluster             *kafka.Cluster
	topic               string
	partition           int32
	waiting             func(reason error)

	life   context.Context // of the connections
	end    context.CancelFunc
	client sarama.Client

	id       *sarama.InitProducerIDResponse // nil: to be asked for
	sequence int32                          // of the next record
	most     int                            // records in a batch, after the broker found one too large
}

// NewSyncProducer returns a producer for one partition, which tries for two minutes, at most until
// ctx ends. Waiting is told, by any goroutine, what a message waits for.
func NewSyncProducer(ctx context.Context, cluster *kafka.Cluster, topic string, partition int32, waiting func(error)) (sarama.SyncProducer, error) {
	p := &producer{cluster: cluster, topic: topic, partition: partition, waiting: waiting, most: math.MaxInt32}
	p.life, p.end = context.WithCancel(ctx)
	config := cluster.Config(p.life, "kafkawrite")
	config.Metadata.Retry.Max = 0 // send does that, and says why
	var err error
	if p.client, err = sarama.NewClient(cluster.Brokers, config); err != nil {
		p.end()
		return nil, cli.Unreached(fmt.Errorf("connecting to Kafka: %w", err))
	}
	return p, nil
}

// Close ends the producer without waiting for a broker.
func (p *producer) Close() error {
	p.end()
	return p.client.Close()
}

// SendMessage returns when the message is stored.
func (p *producer) SendMessage(message *sarama.ProducerMessage) (partition int32, offset int64, err error) {
	offset, err = p.send([]*sarama.ProducerMessage{message})
	return p.partition, offset, err
}

// SendMessages returns when all messages are stored, in their order, one after another. Otherwise
// the error is of type sarama.ProducerErrors and has the messages at the end of which that cannot be
// said.
func (p *producer) SendMessages(messages []*sarama.ProducerMessage) error {
	for len(messages) > 0 {
		n := min(len(messages), p.most)
		_, err := p.send(messages[:n])
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

// send sends one record batch until a broker says that it is stored, or that it never will.
func (p *producer) send(messages []*sarama.ProducerMessage) (offset int64, err error) {
	batch, err := newBatch(messages)
	if err != nil {
		return 0, err
	}
	silent := time.AfterFunc(slow, func() { p.waiting(errNoAnswer) })
	defer silent.Stop()
	defer time.AfterFunc(patience, p.end).Stop()
	wait := kafka.Wait{Say: p.waiting, After: slow}
	for begun := time.Now(); ; {
		offset, err := p.attempt(batch)
		silent.Stop() // from now on wait tells
		switch {
		case err == nil:
			return offset, nil
		case kafka.KindOf(err) == kafka.Permanent:
			return 0, p.cluster.Explain(err, "WRITE", p.topic)
		case !wait.Failed(p.life, err):
			return 0, fmt.Errorf("not acknowledged within %v, but it may be stored all the same: %w", time.Since(begun).Round(time.Second), err)
		}
		p.client.RefreshMetadata(p.topic) // an error shows again when the leader is asked for
	}
}

// attempt sends the batch once. After an error the batch may or may not be stored.
func (p *producer) attempt(batch *sarama.RecordBatch) (offset int64, err error) {
	if p.id == nil {
		id, err := p.client.InitProducerID()
		if err == nil && id.Err != sarama.ErrNoError {
			err = id.Err // a broker that has just started has none to give for a moment
		}
		if err != nil {
			return 0, fmt.Errorf("no producer id: %w", err)
		}
		p.id, p.sequence = id, 0
	}
	batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = p.id.ProducerID, p.id.ProducerEpoch, p.sequence
	leader, err := p.client.Leader(p.topic, p.partition)
	if err != nil {
		return 0, err
	}
	request := &sarama.ProduceRequest{Version: 3, RequiredAcks: sarama.WaitForAll, Timeout: int32(ackTimeout / time.Millisecond)}
	request.AddBatch(p.topic, p.partition, batch)
	response, err := leader.Produce(request)
	if err != nil {
		leader.Close() // its next use opens a new connection
		return 0, err
	}
	block := response.GetBlock(p.topic, p.partition)
	if block == nil {
		return 0, sarama.ErrIncompleteResponse
	}
	switch block.Err {
	case sarama.ErrNoError, sarama.ErrDuplicateSequenceNumber:
		p.sequence = (p.sequence + int32(len(batch.Records))) & math.MaxInt32 // after the last number comes 0
		return block.Offset, nil
	case sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch:
		// The partition does not know what this producer sent last. A broker takes that from the log
		// itself, so this batch is not in it either, and may be sent under a new id.
		p.id = nil
	}
	return 0, block.Err
}

func newBatch(messages []*sarama.ProducerMessage) (*sarama.RecordBatch, error) {
	now := time.Now()
	batch := &sarama.RecordBatch{Version: 2, FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(len(messages) - 1)}
	records := make([]sarama.Record, len(messages))
	for i, m := range messages {
		r := &records[i]
		r.OffsetDelta = int64(i)
		var err error
		if m.Key != nil {
			r.Key, err = m.Key.Encode()
		}
		if m.Value != nil && err == nil {
			r.Value, err = m.Value.Encode()
		}
		if err != nil {
			return nil, err
		}
		for j := range m.Headers {
			r.Headers = append(r.Headers, &m.Headers[j])
		}
		batch.Records = append(batch.Records, r)
	}
	return batch, nil
}
