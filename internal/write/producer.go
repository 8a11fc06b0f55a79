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
	slow     = 2 * time.Second // after this long the user is told the reason of a wait
	patience = 2 * time.Minute // after this long without an acknowledgement a send fails
	// ackTimeout is how long a broker waits for its followers. It is less than the timeout of the
	// connection.
	ackTimeout = 2 * time.Second
	// underWay is how many batches may be under way: a broker remembers a producer's newest five.
	underWay = 5
	// batchBytes is the largest size of a batch: a little less than brokers accept
	// (message.max.bytes, usually 1,048,588). A single message may be larger.
	batchBytes = 1_048_000
	// batchLines saves memory in consumers of the topic, which decode a record batch as a whole.
	batchLines = 10_000
)

var errNoAnswer = errors.New("the broker does not answer")

// A producer is a sarama.SyncProducer, without transactions, whose results are right when something
// fails. Those of sarama 1.38.1 are not. Plain, its retries double and reorder records. Idempotent,
// it lost acknowledged records, and it sends without a pause. This producer makes record batches (a
// broker stores a batch as a whole or not at all). The producer id and the sequence numbers
// identify a batch to the broker. The producer sends a batch again, under the same numbers, until a
// broker says that it is stored. A broker accepts a batch only directly after the one before. So
// several may be under way: no batch overtakes another, and a batch whose answer was lost is stored
// once. A producer is for one goroutine.
type producer struct {
	sarama.SyncProducer // nil: its other methods are not called
	cluster             *kafka.Cluster
	topic               string
	partition           int32
	report              *Report

	life   context.Context // of the connections
	end    context.CancelFunc
	client sarama.Client

	id       *sarama.InitProducerIDResponse // nil: to be asked for
	sequence int32                          // of the first record that is not known to be stored
	most     int                            // records in a batch; fewer after a broker found a batch too large
}

// NewSyncProducer returns a producer for one partition. It gives up after two minutes without an
// acknowledgement, or when ctx ends. Report is told how many messages are stored, and why one
// waits.
func NewSyncProducer(ctx context.Context, cluster *kafka.Cluster, topic string, partition int32, report *Report) (sarama.SyncProducer, error) {
	p := &producer{cluster: cluster, topic: topic, partition: partition, report: report, most: batchLines}
	p.life, p.end = context.WithCancel(ctx)
	config := cluster.Config(p.life, "kafkawrite")
	config.Net.MaxOpenRequests = underWay
	config.Metadata.Retry.Max = 0        // step retries, and says why
	config.Metadata.RefreshFrequency = 0 // step refreshes: all batches of a round go to one leader
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
	_, err = p.send([]*sarama.ProducerMessage{message})
	return p.partition, message.Offset, err
}

// SendMessages returns nil when all messages are stored, in their order. Otherwise the error is a
// sarama.ProducerErrors with the last messages, those that may not be stored.
func (p *producer) SendMessages(messages []*sarama.ProducerMessage) error {
	rest, err := p.send(messages)
	if err == nil {
		return nil
	}
	var failed sarama.ProducerErrors
	for _, m := range rest {
		failed = append(failed, &sarama.ProducerError{Msg: m, Err: err})
	}
	return failed
}

// send returns the messages that are not known to be stored.
func (p *producer) send(messages []*sarama.ProducerMessage) (rest []*sarama.ProducerMessage, err error) {
	for len(messages) > 0 {
		stored, err := p.step(messages)
		if err != nil {
			return messages, err
		}
		messages = messages[stored:]
	}
	return nil, nil
}

// step sends messages until a broker says that the first ones are stored, or that the first one
// never will be, or until it gives up. It returns how many are stored.
func (p *producer) step(messages []*sarama.ProducerMessage) (stored int, err error) {
	silent := time.AfterFunc(slow, func() { p.report.waiting(errNoAnswer) })
	defer silent.Stop()
	defer time.AfterFunc(patience, p.end).Stop()
	wait := kafka.Wait{Say: p.report.waiting, After: slow}
	for begun := time.Now(); ; {
		stored, err := p.round(messages, silent)
		silent.Stop() // from now on wait reports
		switch {
		case stored > 0:
			return stored, nil
		case errors.Is(err, sarama.ErrMessageSizeTooLarge) && p.fit(messages) > 1:
			p.most = p.fit(messages) / 2 // the topic's limit is lower than usual
			continue
		case kafka.KindOf(err) == kafka.Permanent:
			return 0, p.cluster.Explain(err, "WRITE", p.topic)
		case !wait.Failed(p.life, err):
			doubt := ", but it may be stored all the same"
			if p.id == nil {
				doubt = "" // nothing is under way
			}
			return 0, fmt.Errorf("not acknowledged within %v%s: %w", time.Since(begun).Round(time.Second), doubt, err)
		}
		p.client.RefreshMetadata(p.topic) // the look-up of the leader returns an error again
	}
}

// round sends up to underWay batches of the messages and waits for the answers. It returns how many
// messages are stored, and why the one after them is not.
//
// If a batch is stored, those before it are stored too, whatever their answers say: they may have
// been stored at an earlier attempt, and a restarted broker knows only the last batch. Silent is
// the timer that reports the broker's silence.
func (p *producer) round(messages []*sarama.ProducerMessage, silent *time.Timer) (stored int, err error) {
	window := underWay
	if p.sequence == 0 {
		window = 1 // a broker accepts any number from a producer that it does not know: the first batch goes alone
	}
	var flight []*attempt
	for begun := 0; begun < len(messages) && len(flight) < window; {
		a := p.start(messages[begun:], p.sequence+int32(begun))
		flight = append(flight, a)
		if begun += a.count; a.leader == nil {
			break
		}
	}
	forgotten, count := true, 0
	for _, a := range flight {
		<-a.answered
		count += a.count
		if a.err == nil && kafka.KindOf(err) != kafka.Permanent {
			silent.Reset(slow)
			p.report.stored(count - stored)
			stored, err, forgotten = count, nil, true
			continue
		}
		if err == nil {
			err = a.err
		}
		switch code := sarama.KError(0); {
		case a.err == nil:
			forgotten = false
		case errors.As(a.err, &code):
			forgotten = forgotten && (code == sarama.ErrOutOfOrderSequenceNumber || code == sarama.ErrUnknownProducerID || code == sarama.ErrInvalidProducerEpoch)
		case a.leader != nil:
			a.leader.Close() // its next use opens a new connection
			fallthrough
		default:
			forgotten = false
		}
	}
	p.sequence = (p.sequence + int32(stored)) & math.MaxInt32 // after the last number comes 0
	if stored == 0 && forgotten {
		// The partition does not know this producer's last batch. A broker learns that from the log
		// itself, so none of these batches is in the log, and they may be sent under a new id.
		p.id, p.sequence = nil, 0
	}
	return stored, err
}

// An attempt is a record batch under way.
type attempt struct {
	count    int            // of messages
	leader   *sarama.Broker // nil: the batch was not sent
	answered chan struct{}  // closed when the following is final
	err      error          // nil: the batch is stored
}

// start sends as many of the messages as fit into a batch.
func (p *producer) start(messages []*sarama.ProducerMessage, sequence int32) *attempt {
	messages = messages[:p.fit(messages)]
	a := &attempt{count: len(messages), answered: make(chan struct{})}
	done := func(response *sarama.ProduceResponse, err error) {
		defer close(a.answered)
		if a.err = err; err != nil {
			return
		}
		block := response.GetBlock(p.topic, p.partition)
		switch {
		case block == nil:
			a.err = sarama.ErrIncompleteResponse
		case block.Err != sarama.ErrNoError && block.Err != sarama.ErrDuplicateSequenceNumber:
			a.err = block.Err
		default:
			messages[0].Offset = block.Offset // for SendMessage
		}
	}
	if leader, request, err := p.request(messages, sequence); err != nil {
		done(nil, err)
	} else if err := leader.AsyncProduce(request, done); err != nil {
		leader.Close() // half of the request may have been sent
		done(nil, err)
	} else {
		a.leader = leader
	}
	return a
}

// fit returns how many of the messages make a batch. The number depends on the messages and most.
func (p *producer) fit(messages []*sarama.ProducerMessage) (n int) {
	for size := 0; n < len(messages) && n < p.most; n++ {
		if size += messages[n].ByteSize(2); n > 0 && size > batchBytes {
			break
		}
	}
	return n
}

// request makes a record batch of messages, and finds the leader that is to store it.
func (p *producer) request(messages []*sarama.ProducerMessage, sequence int32) (*sarama.Broker, *sarama.ProduceRequest, error) {
	if p.id == nil {
		id, err := p.client.InitProducerID()
		if err == nil && id.Err != sarama.ErrNoError {
			err = id.Err // a broker that has just started has no ids for a moment
		}
		if err != nil {
			return nil, nil, fmt.Errorf("no producer id: %w", err)
		}
		p.id = id
	}
	leader, err := p.client.Leader(p.topic, p.partition)
	if err != nil {
		return nil, nil, err
	}
	batch, err := newBatch(messages)
	if err != nil {
		return nil, nil, err
	}
	batch.ProducerID, batch.ProducerEpoch, batch.FirstSequence = p.id.ProducerID, p.id.ProducerEpoch, sequence&math.MaxInt32
	request := &sarama.ProduceRequest{Version: 3, RequiredAcks: sarama.WaitForAll, Timeout: int32(ackTimeout / time.Millisecond)}
	request.AddBatch(p.topic, p.partition, batch)
	return leader, request, nil
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
