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
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

const (
	// Before the topic is searched for what may have been sent there is a pause. It grows while no
	// message is taken, so that a topic that cannot be written to is not hammered.
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	// readCheck is how often who waits looks how far the topic has been read. The record itself wakes
	// the waiter at once.
	readCheck = 20 * time.Millisecond
	// forgetAfter is the time after which it counts for nothing that the last send has failed, if
	// nobody sends any more.
	forgetAfter = 10 * time.Second
)

// ErrRejected is in the error for a message that Kafka refused for good: it is not in the topic.
var ErrRejected = errors.New("not taken by Kafka")

// Send sends a message by a producer, and returns where the message is in the topic.
type Send = func(sarama.SyncProducer) (partition int32, offset int64, err error)

// A Log is the pod's copy of the topic. Its methods may be called by anybody.
type Log interface {
	// Find returns the offset of the record with this id that is shown, if it has been read and
	// is still in the dedupe window.
	Find(id string) (shown int64, ok bool)
	// Reading returns the offset before which everything has been read, and the number of the consumer
	// that reads. After a fault another consumer goes on, perhaps in another topic.
	Reading() (next int64, consumer int)
	// End asks the broker where the topic ends, after the call.
	End(ctx context.Context) (int64, error)
	// Behind says that the log may lack so much of the topic that a first copy of a message can be
	// out of reach of the dedupe window when a second one is sent.
	Behind() bool
}

// Publisher is shared by all connections of a pod. Its methods may be called by anybody.
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
	retry   time.Time     // when it ends
	waiters map[string]*waiter
}

// A waiter is who waits for the record with an id: one call of Publish, or several.
type waiter struct {
	calls int           // guarded by Publisher.mu
	seen  chan struct{} // closed when the record has been read
	shown int64         // then, the offset of the record that is shown
}

// New returns a publisher; it works while Run runs. Report is told, for the part "producer", why Kafka
// does not take messages, or nil, after each send; by many goroutines at once.
func New(cluster *kafka.Cluster, clientID, topic string, history Log, report func(part string, err error), log *slog.Logger) *Publisher {
	return &Publisher{
		cluster: cluster, clientID: clientID, topic: topic, history: history, report: report, log: log,
		waiters: make(map[string]*waiter),
	}
}

// Publish sends the record with this id and returns its offset when it has been read back. If
// the log has the id already, it returns the offset of that record and sends nothing.
//
// Again says that the message was sent before, perhaps through another pod: then, or if this pod is
// behind, it is looked for up to the topic's end first.
//
// Send is called with a producer, as often as needed, never twice at a time. Publish waits as
// long as ctx allows; if ctx ends first the record may still appear. ErrRejected says that it will
// not.
func (p *Publisher) Publish(ctx context.Context, id string, again bool, send Send) (int64, error) {
	w := p.register(id)
	defer p.unregister(id, w)
	// Registered first, looked up second: what is read in between is seen by one or the other.
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

// search waits until everything that is in the topic now has been read, and says whether the message
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
			continue // the topic is another one, and whoever reads it has not noticed yet
		}
		if shown, found, err := p.await(ctx, id, w, end, consumer); found || err != nil {
			return shown, found, err
		}
		if _, now := p.history.Reading(); now == consumer {
			return 0, false, nil
		}
	}
}

// await returns when everything before end has been read, when the message has, or when another
// consumer reads the topic: the brokers may have lost records whose offsets the producer has given.
// It says whether the message has been read.
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

// Read says that a record with this id ("" for none) has been read, and that the one that is shown for
// it is at offset shown. It is called by one goroutine, after the log has the record.
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
