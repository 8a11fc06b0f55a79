package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

// Bounds are where a partition begins and ends: Oldest is the offset of its first record, Newest
// that which its next record gets.
type Bounds struct {
	Oldest, Newest int64
	Asked          time.Time // the answer was given after this
}

func bounds(client sarama.Client, topic string, partition int32) (b Bounds, err error) {
	b.Asked = time.Now()
	if b.Oldest, err = client.GetOffset(topic, partition, sarama.OffsetOldest); err == nil {
		b.Newest, err = client.GetOffset(topic, partition, sarama.OffsetNewest)
	}
	if err != nil {
		return Bounds{}, fmt.Errorf("asking where partition %d of topic %q begins and ends: %w", partition, topic, err)
	}
	return b, nil
}

const (
	endsEvery    = time.Second     // between two questions while they are answered
	endsTimeout  = 3 * time.Second // of one question
	endsPatience = time.Second     // failures for less than this are not told
	endsRetries  = 1               // looks for the leader, for one question
)

// Ends knows where a partition begins and ends. It asks that partition's leader, on connections of
// its own: an answer must not wait behind a consumer's fetch. Its methods may be called by anybody.
type Ends struct {
	cluster         *Cluster
	clientID, topic string
	partition       int32
	tell            func(error)

	ask chan struct{} // capacity 1: somebody wants an answer soon

	mu      sync.Mutex // guards the following
	waiters []chan Bounds
	last    Bounds
}

// NewEnds returns one that works while Run runs. Tell is called from there: with nil after each
// answer, and with the reason when there has been none for a second.
func (c *Cluster) NewEnds(clientID, topic string, partition int32, tell func(error)) *Ends {
	return &Ends{cluster: c, clientID: clientID, topic: topic, partition: partition, tell: tell, ask: make(chan struct{}, 1)}
}

// Run asks once a second, and when Ask or Wake is called, until ctx ends. While there is no answer
// its pause grows.
func (e *Ends) Run(ctx context.Context) {
	var client *endsClient // nil while there is none
	defer func() { client.close() }()
	answered := time.Now()
	var wait Wait
	for ctx.Err() == nil {
		e.mu.Lock()
		waiters := e.waiters
		e.waiters = nil
		e.mu.Unlock()
		var b Bounds
		var err error
		if client == nil {
			client, err = e.connect(ctx)
		}
		if err == nil {
			b, err = client.bounds(e.topic, e.partition)
		}
		if err != nil {
			client.close()
			client = nil
			e.mu.Lock()
			e.waiters = append(waiters, e.waiters...) // they are answered when the broker is there
			e.mu.Unlock()
			if time.Since(answered) > endsPatience && ctx.Err() == nil {
				e.tell(err)
			}
			wait.Failed(ctx, err)
			continue
		}
		wait.Worked()
		answered = time.Now()
		e.mu.Lock()
		e.last = b
		e.mu.Unlock()
		for _, w := range waiters {
			w <- b
		}
		e.tell(nil)
		pause := time.NewTimer(endsEvery)
		select {
		case <-pause.C:
		case <-e.ask:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// Ask returns an answer that was asked for after the call. It waits until the leader answers or ctx
// ends.
func (e *Ends) Ask(ctx context.Context) (Bounds, error) {
	answer := make(chan Bounds, 1)
	e.mu.Lock()
	e.waiters = append(e.waiters, answer)
	e.mu.Unlock()
	e.Wake()
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		return Bounds{}, fmt.Errorf("the broker did not say where partition %d of topic %q ends: %w", e.partition, e.topic, ctx.Err())
	}
}

// Wake has Run ask soon; the answer is what Last returns then.
func (e *Ends) Wake() {
	select {
	case e.ask <- struct{}{}:
	default:
	}
}

// Last returns the newest answer; its Asked is zero if there is none.
func (e *Ends) Last() Bounds {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// An endsClient is a sarama client, and what cuts its sockets.
type endsClient struct {
	sarama.Client
	cut context.CancelFunc
}

func (e *Ends) connect(ctx context.Context) (*endsClient, error) {
	ctx, cut := context.WithCancel(ctx)
	config := e.cluster.Config(ctx, e.clientID)
	config.Metadata.Retry.Max = endsRetries // a question that cannot be answered now is asked again by Run
	client, err := sarama.NewClient(e.cluster.Brokers, config)
	if err != nil {
		cut()
		return nil, err
	}
	return &endsClient{client, cut}, nil
}

// bounds asks. A client that has returned an error is of no use any more.
func (c *endsClient) bounds(topic string, partition int32) (Bounds, error) {
	late := time.AfterFunc(endsTimeout, c.cut)
	defer late.Stop()
	return bounds(c.Client, topic, partition)
}

func (c *endsClient) close() {
	if c != nil {
		c.cut()
		c.Client.Close()
	}
}
