// Package publish brings one message to the topic and back: a message is published when this pod
// has read it back from the topic, not when a producer says so.
//
// sarama's producer cannot be believed under faults: it was measured to acknowledge what is
// not in the log, and to send again what is. So it is used without retries of its own, one copy
// of a message in it at a time, and a message is sent again only when the log, read up to its
// end, does not have it.
package publish

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

// A Log is the pod's copy of the topic. Its methods may be called by anybody.
type Log interface {
	// Find returns the offset of the record with this id that is shown, if it has been read and
	// is still in the dedupe window.
	Find(id string) (shown int64, ok bool)
	// Next is the offset after the last record that has been read.
	Next() int64
	// HasRead says whether everything before end has been read.
	HasRead(end int64) bool
	// End asks the broker where the topic ends, after the call.
	End(ctx context.Context) (int64, error)
	// Behind says that the log may lack so much of the topic that a first copy of a message can be
	// out of reach of the dedupe window when a second one is sent.
	Behind() bool
	// Suspect says that the topic cannot be the one that has been read: whoever reads it should
	// look, and call Reset.
	Suspect()
}

// Rejected is the error for a message that Kafka refused for good: it is not in the topic.
type Rejected struct{ cause error }

func (r *Rejected) Error() string { return "Kafka refused the message: " + r.cause.Error() }
func (r *Rejected) Unwrap() error { return r.cause }

// Publisher is shared by all connections of a pod. Its methods may be called by anybody.
type Publisher struct {
	cluster   *kafka.Cluster
	clientID  string
	topic     string
	history   Log
	log       *slog.Logger
	hungAfter time.Duration // another one in tests

	count     atomic.Int64 // of waiters, so that Read costs nothing while nobody waits
	unsettled chan *waiter
	retired   sync.WaitGroup // generations that are being closed
	health    health

	mu       sync.Mutex // guards the following; held for a few map operations
	current  *generation
	closed   bool
	epoch    int // of the log: how many resets there were
	waiters  map[string][]*waiter
	expected map[int64]*waiter // by the offset that the producer gave
	next     int64             // the offset that Read is to be called with next, unless there is a hole
}

// doubtFor is the time for the topic to be looked at again, once it is suspected.
const doubtFor = 3 * time.Second

// New returns a publisher; it works while Run runs. Report is called, by one goroutine at a time, with
// why Kafka does not take messages, and with nil when it does again.
func New(cluster *kafka.Cluster, clientID, topic string, history Log, report func(error), log *slog.Logger) *Publisher {
	return &Publisher{
		cluster: cluster, clientID: clientID, topic: topic, history: history, log: log, hungAfter: hungAfter, health: health{report: report},
		unsettled: make(chan *waiter, 1024),
		waiters:   make(map[string][]*waiter),
		expected:  make(map[int64]*waiter),
	}
}

// Publish sends the record with this id and returns its offset when it has been read back. If
// the log has the id already, it returns the offset of that record and sends nothing.
//
// Again says that the message was sent before, perhaps through another pod: then, or if this pod is
// behind, it is looked for up to the topic's end first.
//
// Send is called with a producer, as often as needed, never twice at a time. Publish waits as
// long as ctx allows; if ctx ends first the record may still appear. A *Rejected error says
// that it will not.
func (p *Publisher) Publish(ctx context.Context, id string, again bool, send func(sarama.SyncProducer) (partition int32, offset int64, err error)) (int64, error) {
	w := p.register(id)
	defer p.unregister(w)
	// Registered first, looked up second: what is read in between is seen by one or the other.
	if shown, ok := p.history.Find(id); ok {
		return shown, nil
	}
	for known := !again && !p.history.Behind(); ; known = false {
		if !known {
			// It may be in the topic, from an earlier try or through another pod. Only the topic can tell.
			if shown, found, err := p.search(ctx, w); found || err != nil {
				return shown, err
			}
		}
		read := p.history.Next()
		epoch, offset, err := p.send(ctx, send)
		switch {
		case kafka.KindOf(err) == kafka.Permanent:
			return 0, &Rejected{p.cluster.Explain(err, kafka.Write, p.topic)}
		case ctx.Err() != nil && err != nil:
			return 0, fmt.Errorf("waiting for Kafka: %w", ctx.Err())
		case err != nil:
			p.log.Debug("message not acknowledged", "err", err)
		case p.expect(w, epoch, offset, read):
			var doubt <-chan time.Time
			if offset < read {
				// A record that came after what has been read cannot stand before its end.
				p.history.Suspect()
				doubt = time.After(doubtFor)
			}
			select {
			case shown := <-w.seen:
				return shown, nil
			case <-w.lost:
				p.log.Debug("acknowledged message is not in the topic", "offset", offset)
			case <-doubt: // the topic is the same: the producer was wrong
			case <-ctx.Done():
				return 0, fmt.Errorf("waiting for the message to come back: %w", ctx.Err())
			}
		}
	}
}

// Run answers those whose send failed, until ctx ends; then sending fails, and Run returns when every
// producer is closed.
func (p *Publisher) Run(ctx context.Context) {
	p.settle(ctx)
	p.mu.Lock()
	p.closed = true
	g := p.current
	p.mu.Unlock()
	p.retire(g)
	p.retired.Wait()
}
