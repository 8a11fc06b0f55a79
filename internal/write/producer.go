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
	// underWay is how many batches may be: a broker knows the newest five of a producer again.
	underWay = 5
	// batchBytes is the most that a batch may have: a little less than what brokers accept
	// (message.max.bytes, usually 1,048,588). A single message may have more.
	batchBytes = 1_048_000
	// batchLines spares the memory of those who read the topic: they decode a record batch as a whole.
	batchLines = 10_000
)

var errNoAnswer = errors.New("the broker does not answer")

// A producer is a sarama.SyncProducer, without transactions, that can be believed when something
// fails. sarama 1.38.1's own cannot: plain, its retries double and reorder records; idempotent,
// records were lost that had been acknowledged, and it sends without a pause. This one makes record
// batches (the unit that a broker stores as a whole or not at all), with the producer id and the
// sequence numbers by which a broker knows them again, and keeps sending them under the same numbers
// until a broker says that it has them. A broker takes a batch only directly after the one before, so
// several may be under way: nothing is overtaken, and what was stored before its answer got lost is
// stored once. It is for one goroutine.
type producer struct {
	sarama.SyncProducer // nil: nobody calls its other methods
	cluster             *kafka.Cluster
	topic               string
	partition           int32
	report              *Report

	life   context.Context // of the connections
	end    context.CancelFunc
	client sarama.Client

	id       *sarama.InitProducerIDResponse // nil: to be asked for
	sequence int32                          // of the first record that is not known to be stored
	most     int                            // records in a batch; fewer, after the broker found one too large
}

// NewSyncProducer returns a producer for one partition, which tries for two minutes, at most until
// ctx ends. Report is told how far it is, and what a message waits for.
func NewSyncProducer(ctx context.Context, cluster *kafka.Cluster, topic string, partition int32, report *Report) (sarama.SyncProducer, error) {
	p := &producer{cluster: cluster, topic: topic, partition: partition, report: report, most: batchLines}
	p.life, p.end = context.WithCancel(ctx)
	config := cluster.Config(p.life, "kafkawrite")
	config.Net.MaxOpenRequests = underWay
	config.Metadata.Retry.Max = 0        // step does that, and says why
	config.Metadata.RefreshFrequency = 0 // likewise: all batches of a round go to one leader
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

// SendMessages returns when all messages are stored, in their order, one after another. Otherwise
// the error is of type sarama.ProducerErrors and has the messages at the end of which that cannot be
// said.
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

// send returns the messages of which it cannot be said that they are stored.
func (p *producer) send(messages []*sarama.ProducerMessage) (rest []*sarama.ProducerMessage, err error) {
	p.report.sending(len(messages))
	for len(messages) > 0 {
		stored, err := p.step(messages)
		if err != nil {
			return messages, err
		}
		messages = messages[stored:]
	}
	return nil, nil
}

// step sends messages until a broker says that some are stored, the first ones, or that the first
// one never will be. It returns how many are.
func (p *producer) step(messages []*sarama.ProducerMessage) (stored int, err error) {
	silent := time.AfterFunc(slow, func() { p.report.waiting(errNoAnswer) })
	defer silent.Stop()
	defer time.AfterFunc(patience, p.end).Stop()
	wait := kafka.Wait{Say: p.report.waiting, After: slow}
	for begun := time.Now(); ; {
		stored, err := p.round(messages, silent)
		silent.Stop() // from now on wait tells
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
		p.client.RefreshMetadata(p.topic) // an error shows again when the leader is asked for
	}
}

// round sends up to five batches of the messages and waits for the answers. It returns how many
// messages are stored, and why the one after them is not.
//
// That a batch is stored says that those before it are, whatever was answered to them: they may have
// been stored at an earlier attempt, and a broker that was started again knows only the last batch.
// Silent is the timer that tells the person of the broker's silence.
func (p *producer) round(messages []*sarama.ProducerMessage, silent *time.Timer) (stored int, err error) {
	window := underWay
	if p.sequence == 0 {
		window = 1 // a broker takes any number from a producer that it does not know: the first batch goes alone
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
		// The partition does not know what this producer sent last. A broker takes that from the log
		// itself, so none of these batches is in it, and they may be sent under a new id.
		p.id, p.sequence = nil, 0
	}
	return stored, err
}

// An attempt is a record batch under way.
type attempt struct {
	count    int            // of messages
	leader   *sarama.Broker // nil: it was not sent
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
		leader.Close() // half of it may have been sent
		done(nil, err)
	} else {
		a.leader = leader
	}
	return a
}

// fit returns how many of the messages make a batch, always the same number of the same messages.
func (p *producer) fit(messages []*sarama.ProducerMessage) (n int) {
	for size := 0; n < len(messages) && n < p.most; n++ {
		if size += messages[n].ByteSize(2); n > 0 && size > batchBytes {
			break
		}
	}
	return n
}

// request makes a record batch of messages, and finds out who is to store it.
func (p *producer) request(messages []*sarama.ProducerMessage, sequence int32) (*sarama.Broker, *sarama.ProduceRequest, error) {
	if p.id == nil {
		id, err := p.client.InitProducerID()
		if err == nil && id.Err != sarama.ErrNoError {
			err = id.Err // a broker that has just started has none to give for a moment
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
