// Package probe asks the broker where the topic ends. The answer tells a consumer that is
// stalled from a chat that is quiet, and whether what was sent must have been read by now.
package probe

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

const (
	every      = time.Second            // between two questions while all is well
	afterError = 200 * time.Millisecond // and while the broker does not answer
	timeout    = 3 * time.Second        // of one question
	patience   = time.Second            // failures for less than this are nobody's business
)

// Probe asks for the end of partition 0 of one topic, on connections of its own: an answer
// must not wait behind a consumer's fetch. Its methods may be called by anybody.
type Probe struct {
	cluster  *kafka.Cluster
	clientID string
	topic    string
	onAnswer func(up bool)

	ask chan struct{} // capacity 1: somebody waits

	mu      sync.Mutex // guards the following
	waiters []chan int64
	last    Answer
}

// An Answer is the topic's end offset, and when it was asked for.
type Answer struct {
	End   int64
	Asked time.Time
}

// New returns a probe that works while Run runs. onAnswer is called from there after each answer,
// and with false when there has been none for a while.
func New(cluster *kafka.Cluster, clientID, topic string, onAnswer func(up bool)) *Probe {
	return &Probe{cluster: cluster, clientID: clientID, topic: topic, onAnswer: onAnswer, ask: make(chan struct{}, 1)}
}

// Run asks once a second, and when End is called, until ctx ends.
func (p *Probe) Run(ctx context.Context) {
	var c *connection // nil while there is none
	defer func() { c.close() }()
	answered := time.Now()
	for {
		asked := time.Now()
		p.mu.Lock()
		waiters := p.waiters
		p.waiters = nil
		p.mu.Unlock()

		var end int64
		var err error
		if c == nil {
			c, err = p.connect(ctx)
		}
		if err == nil {
			end, err = c.question(p.topic)
		}
		pause := every
		if err == nil {
			answered = time.Now()
			p.mu.Lock()
			p.last = Answer{end, asked}
			p.mu.Unlock()
			p.onAnswer(true)
			for _, w := range waiters {
				w <- end
			}
		} else {
			c.close()
			c = nil
			pause = afterError
			if time.Since(answered) > patience {
				p.onAnswer(false)
			}
			p.mu.Lock()
			p.waiters = append(p.waiters, waiters...)
			p.mu.Unlock()
		}
		ask := p.ask
		if err != nil {
			ask = nil // who waits is answered when the broker is
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ask:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// A connection is a sarama client, and what cuts its sockets.
type connection struct {
	client sarama.Client
	cut    context.CancelFunc
}

func (p *Probe) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	config := p.cluster.Config(ctx, p.clientID)
	// A question that cannot be answered now is asked again by Run, which counts.
	config.Metadata.Retry.Max = 1
	client, err := sarama.NewClient(p.cluster.Brokers, config)
	if err != nil {
		cancel()
		return nil, err
	}
	return &connection{client, cancel}, nil
}

// question asks where the topic ends. A connection that has returned an error is of no use.
func (c *connection) question(topic string) (int64, error) {
	late := time.AfterFunc(timeout, c.cut)
	defer late.Stop()
	return c.client.GetOffset(topic, 0, sarama.OffsetNewest)
}

func (c *connection) close() {
	if c != nil {
		c.cut()
		c.client.Close()
	}
}

// End returns the topic's end offset, asked for after the call. It waits until the broker
// answers or ctx ends.
func (p *Probe) End(ctx context.Context) (int64, error) {
	answer := make(chan int64, 1)
	p.mu.Lock()
	p.waiters = append(p.waiters, answer)
	p.mu.Unlock()
	p.Ask()
	select {
	case end := <-answer:
		return end, nil
	case <-ctx.Done():
		return 0, errors.Join(errors.New("the broker did not say where the topic ends"), ctx.Err())
	}
}

// Ask has Run ask soon; the answer is what Last returns then.
func (p *Probe) Ask() {
	select {
	case p.ask <- struct{}{}:
	default:
	}
}

// Last returns the newest answer; its Asked is zero if there is none.
func (p *Probe) Last() Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
