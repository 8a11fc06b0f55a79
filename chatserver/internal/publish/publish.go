// Package publish brings one message to the topic and back: it is published when this pod has
// read it back from the topic, not when a producer says so.
//
// sarama's producer cannot be believed under faults: it was measured to acknowledge what is
// not in the log, and to send again what is. So it is used without retries of its own, one copy
// of a message in it at a time, and a message is sent again only when the log, read up to its
// end, does not have it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

// A Log is the pod's copy of the topic.
type Log interface {
	// Find returns the offset of the record with this id that is shown, if it has been read and
	// is still in the dedupe window.
	Find(id string) (shown int64, ok bool)
	// Next is the offset after the last record that has been read.
	Next() int64
	// Reached says whether everything before end has been read.
	Reached(end int64) bool
}

// Rejected is the error for a message that Kafka refused for good: it is not in the topic.
type Rejected struct{ cause error }

func (r *Rejected) Error() string { return "Kafka refused the message: " + r.cause.Error() }
func (r *Rejected) Unwrap() error { return r.cause }

// Publisher is shared by all connections of a pod. Its methods may be called by anybody.
type Publisher struct {
	cluster  *kafka.Cluster
	clientID string
	tail     Log
	out      Outside
	log      *slog.Logger

	count     atomic.Int64 // of waiters, so that Read costs nothing while nobody waits
	unsettled chan *waiter

	mu       sync.Mutex // guards the following; held for a few map operations
	current  *generation
	closed   bool
	epoch    int // of the log: how many resets there were
	waiters  map[string][]*waiter
	expected map[int64]*waiter // by the offset that the producer gave
	next     int64             // the offset that Read is to be called with next, unless there is a hole
	up       bool              // what onChange was told last
	retired  sync.WaitGroup    // generations that are being closed
}

// Outside is what a publisher asks of others and tells them. All are called by any goroutine.
type Outside struct {
	// End asks the broker where the topic ends, after the call.
	End func(ctx context.Context) (int64, error)
	// Behind says that the log may lack so much of the topic that a first copy of a message can be
	// out of reach of the dedupe window when a second one is sent.
	Behind func() bool
	// Suspect says that the topic cannot be the one that has been read: whoever reads it should
	// look, and call Reset.
	Suspect func()
	// OnChange says that sending begins to fail, or works again.
	OnChange func(up bool)
}

// doubtFor is the time for the topic to be looked at again, once it is suspected.
const doubtFor = 3 * time.Second

// New returns a publisher; it works while Run runs.
func New(cluster *kafka.Cluster, clientID string, tail Log, out Outside, log *slog.Logger) *Publisher {
	return &Publisher{
		cluster: cluster, clientID: clientID, tail: tail, out: out, log: log,
		unsettled: make(chan *waiter, 1024),
		waiters:   make(map[string][]*waiter),
		expected:  make(map[int64]*waiter),
		up:        true,
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
	if shown, ok := p.tail.Find(id); ok {
		return shown, nil
	}
	for known := !again && !p.out.Behind(); ; known = false {
		if !known {
			// It may be in the topic, from an earlier try or through another pod. Only the topic can tell.
			if shown, found, err := p.search(ctx, w); found || err != nil {
				return shown, err
			}
		}
		read := p.tail.Next()
		epoch, offset, err := p.send(ctx, send)
		switch {
		case permanent(err):
			return 0, &Rejected{err}
		case ctx.Err() != nil && err != nil:
			return 0, fmt.Errorf("waiting for Kafka: %w", ctx.Err())
		case err != nil:
			p.log.Debug("message not acknowledged", "err", err)
		case p.expect(w, epoch, offset, read):
			var doubt <-chan time.Time
			if offset < read {
				// A record that came after what has been read cannot stand before its end.
				p.out.Suspect()
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

// search waits until everything that is in the topic now has been read, and says whether w's
// message is in it.
func (p *Publisher) search(ctx context.Context, w *waiter) (shown int64, found bool, err error) {
	select {
	case p.unsettled <- w:
	case <-ctx.Done():
	}
	select {
	case shown := <-w.seen:
		return shown, true, nil
	case <-w.settled:
	case <-ctx.Done():
		return 0, false, fmt.Errorf("waiting for Kafka: %w", ctx.Err())
	}
	select {
	case shown := <-w.seen: // perhaps so long ago that the window has forgotten it
		return shown, true, nil
	default:
	}
	shown, found = p.tail.Find(w.id)
	return shown, found, nil
}

// permanent says whether trying again cannot help.
func permanent(err error) bool {
	var configuration sarama.ConfigurationError
	if errors.As(err, &configuration) {
		return true // sarama found the message too large, and did not send it
	}
	for _, target := range []sarama.KError{
		sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidMessageSize, sarama.ErrInvalidTimestamp,
		sarama.ErrTopicAuthorizationFailed, sarama.ErrPolicyViolation, sarama.ErrInvalidRecord,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
