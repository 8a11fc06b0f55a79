// Package publish writes a message to the topic. A message is published when this pod has read it
// back from the topic, not when the producer acknowledges it.
//
// sarama's producer cannot be trusted under faults. In measurements it acknowledged messages that
// were not in the log, and sent messages again that were. So the producer has no retries of its
// own, and one copy of a message at a time. The publisher sends a message again only if the log,
// read up to its end, does not have it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

const (
	// A pause comes before each search of the topic for a message. It grows while Kafka takes no
	// message, so that a topic that takes none gets few attempts.
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	// readCheck is the time between two checks of how far the topic has been read. The record
	// itself wakes its waiter at once.
	readCheck = 100 * time.Millisecond
	// forgetAfter is how often a failed send is forgotten, while no call of Publish waits.
	forgetAfter = 10 * time.Second
)

// ErrRejected is in the error for a message that Kafka refused for good: it is not in the topic.
var ErrRejected = errors.New("not taken by Kafka")

// Send sends a message by a producer, and returns where the message is in the topic.
type Send = func(sarama.SyncProducer) (partition int32, offset int64, err error)

// A Log is the pod's copy of the topic. Any goroutine may call its methods.
type Log interface {
	// Find returns the offset of the record with this id that is shown, if it has been read and
	// is still in the dedupe window.
	Find(id string) (shown int64, ok bool)
	// Reading returns the offset before which everything has been read, and the number of the
	// consumer that reads. After a fault another consumer goes on, perhaps in another topic.
	Reading() (next int64, consumer int)
	// End asks the broker where the topic ends, after the call.
	End(ctx context.Context) (int64, error)
	// Behind returns true if the log may lack so many records that the dedupe window cannot reach
	// from one copy of a message to the next.
	Behind() bool
}

// All connections of a pod share one Publisher. Any goroutine may call its methods.
type Publisher struct {
	cluster  *kafka.Cluster
	clientID string
	topic    string
	history  Log
	report   func(part string, err error)
	log      *slog.Logger
	retired  sync.WaitGroup // generations that are being closed

	mu      sync.Mutex // guards the following; held for a few map operations
	current *generation
	closed  bool
	pause   time.Duration // the last one, 0 while messages are taken
	retry   time.Time     // when the pause ends
	waiters map[string]*waiter
}

// A waiter stands for the calls of Publish, one or several, that wait for the record with an id.
type waiter struct {
	calls int           // guarded by Publisher.mu
	seen  chan struct{} // closed when the record has been read
	shown int64         // set before seen is closed: the offset of the record that is shown
}

// New returns a publisher; it works while Run runs. Report gets, for the part Producer, why Kafka
// does not take messages, or nil, after each send. Many goroutines call report at once.
func New(cluster *kafka.Cluster, clientID, topic string, history Log, report func(part string, err error), log *slog.Logger) *Publisher {
	return &Publisher{
		cluster: cluster, clientID: clientID, topic: topic, history: history, report: report, log: log,
		waiters: make(map[string]*waiter),
	}
}

// Publish sends the record with this id and returns its offset when it has been read back. If
// the log has the id already, it returns the offset of that record and sends nothing.
//
// Again says that the message was sent before, perhaps through another pod. Then, or if
// history.Behind, Publish first searches the topic up to its end.
//
// Send is called with a producer, as often as needed, never twice at a time. Publish waits as
// long as ctx allows; if ctx ends first the record may still appear. ErrRejected says that it will
// not.
func (p *Publisher) Publish(ctx context.Context, id string, again bool, send Send) (int64, error) {
	w := p.register(id)
	defer p.unregister(id, w)
	// The waiter is registered before the lookup, so a record that is read in between is not
	// missed.
	if shown, ok := p.history.Find(id); ok {
		return shown, nil
	}
	for search := again || p.history.Behind(); ; search = true {
		if search {
			if shown, found, err := p.search(ctx, id, w); found || err != nil {
				return shown, err
			}
		}
		_, consumer := p.history.Reading()
		offset, err := p.send(ctx, send)
		switch {
		case kafka.KindOf(err) == kafka.Permanent:
			return 0, fmt.Errorf("%w: %w", ErrRejected, p.cluster.Explain(err, "WRITE", p.topic))
		case err != nil:
			p.log.Debug("message not acknowledged", "err", err)
			continue
		}
		if shown, found, err := p.await(ctx, id, w, offset+1, consumer); found || err != nil {
			return shown, err
		}
		p.log.Debug("acknowledged message is not in the topic", "offset", offset)
	}
}

// search waits until the pod has read all that is in the topic now, and returns whether the message
// is in it.
func (p *Publisher) search(ctx context.Context, id string, w *waiter) (shown int64, found bool, err error) {
	p.mu.Lock()
	pause := max(firstPause, time.Until(p.retry))
	p.mu.Unlock()
	for {
		select {
		case <-time.After(pause):
		case <-w.seen:
			return w.shown, true, nil
		case <-ctx.Done():
			return 0, false, fmt.Errorf("waiting for Kafka: %w", ctx.Err())
		}
		next, consumer := p.history.Reading()
		end, err := p.history.End(ctx)
		if err != nil {
			return 0, false, err
		}
		if pause = firstPause; end < next {
			continue // the topic was made anew, and the consumer has not noticed yet
		}
		if shown, found, err := p.await(ctx, id, w, end, consumer); found || err != nil {
			return shown, found, err
		}
		if _, now := p.history.Reading(); now == consumer {
			return 0, false, nil
		}
	}
}

// await returns when all before end has been read, when the message has been read, or when another
// consumer reads the topic: then the brokers may have lost acknowledged records. Found says whether
// the message has been read.
func (p *Publisher) await(ctx context.Context, id string, w *waiter, end int64, consumer int) (shown int64, found bool, err error) {
	check := time.NewTicker(readCheck)
	defer check.Stop()
	for {
		select {
		case <-w.seen: // perhaps so long ago that the window has forgotten it
			return w.shown, true, nil
		default:
		}
		if next, now := p.history.Reading(); next >= end || now != consumer {
			shown, found = p.history.Find(id)
			return shown, found, nil
		}
		select {
		case <-w.seen:
		case <-check.C:
		case <-ctx.Done():
			return 0, false, fmt.Errorf("waiting for the message to come back: %w", ctx.Err())
		}
	}
}

// Read notes that a record with this id ("" for none) has been read, and that the one that is shown
// for it is at offset shown. It is called by one goroutine, after the log has the record.
func (p *Publisher) Read(id string, shown int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.waiters[id]; w != nil {
		delete(p.waiters, id)
		w.shown = shown
		close(w.seen)
	}
}

func (p *Publisher) register(id string) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiters[id]
	if w == nil {
		w = &waiter{seen: make(chan struct{})}
		p.waiters[id] = w
	}
	w.calls++
	return w
}

func (p *Publisher) unregister(id string, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.calls--; w.calls == 0 && p.waiters[id] == w {
		delete(p.waiters, id)
	}
}
