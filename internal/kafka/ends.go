package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

const (
	endsEvery    = time.Second     // between two questions while they are answered
	endsTimeout  = 3 * time.Second // of one question
	endsPatience = time.Second     // failures for less than this are not told
)

// An End is where a partition ends: the offset that its next record gets.
type End struct {
	Offset int64
	Asked  time.Time // the answer was given after this; zero: there was none
}

// Ends knows where a partition ends. It asks that partition's leader, on connections of its own: an
// answer must not wait behind a consumer's fetch. Its methods may be called by anybody.
type Ends struct {
	cluster         *Cluster
	clientID, topic string
	partition       int32
	tell            func(error)
	ask             chan struct{} // capacity 1: somebody wants an answer soon

	mu      sync.Mutex // guards the following
	last    End
	changed chan struct{} // closed, and made anew, when last changes
}

// NewEnds returns one that works while Run runs. Tell is called from there: with nil after each
// answer, and with the reason, each once a minute, when there has been none for a second.
func (c *Cluster) NewEnds(clientID, topic string, partition int32, tell func(error)) *Ends {
	return &Ends{cluster: c, clientID: clientID, topic: topic, partition: partition, tell: tell,
		ask: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run asks once a second, and when Ask or Wake is called, until ctx ends. While there is no answer
// its pause grows.
func (e *Ends) Run(ctx context.Context) {
	wait := Wait{After: endsPatience, Say: e.tell}
	for wait.Failed(ctx, e.serve(ctx, &wait)) {
	}
}

// serve connects, and asks until there is no answer.
func (e *Ends) serve(ctx context.Context, wait *Wait) error {
	session, err := e.cluster.NewSession(ctx, e.clientID, e.topic)
	if err != nil {
		return err
	}
	defer session.Close()
	pause := time.NewTicker(endsEvery)
	defer pause.Stop()
	for {
		late := time.AfterFunc(endsTimeout, func() { session.end(context.DeadlineExceeded) })
		asked := time.Now()
		offset, err := session.Offset(e.partition, sarama.OffsetNewest)
		late.Stop()
		if err != nil {
			return err
		}
		e.mu.Lock()
		e.last = End{offset, asked}
		close(e.changed)
		e.changed = make(chan struct{})
		e.mu.Unlock()
		wait.Worked()
		e.tell(nil)
		select {
		case <-pause.C:
		case <-e.ask:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ask returns an answer that was asked for after the call. It waits until the leader answers or ctx
// ends.
func (e *Ends) Ask(ctx context.Context) (End, error) {
	for since := time.Now(); ; {
		e.mu.Lock()
		last, changed := e.last, e.changed
		e.mu.Unlock()
		if !last.Asked.Before(since) {
			return last, nil
		}
		e.Wake()
		select {
		case <-changed:
		case <-ctx.Done():
			return End{}, fmt.Errorf("the broker did not say where partition %d of topic %q ends: %w", e.partition, e.topic, ctx.Err())
		}
	}
}

// Wake has Run ask soon; the answer is what Last returns then.
func (e *Ends) Wake() {
	select {
	case e.ask <- struct{}{}:
	default:
	}
}

// Last returns the newest answer.
func (e *Ends) Last() End {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}
