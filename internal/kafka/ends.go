package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	endsEvery    = time.Second     // between two questions while they are answered
	endsTimeout  = 3 * time.Second // of one question
	endsPatience = time.Second     // failures for less than this are not told
)

// Ends knows where a partition begins and ends. It asks that partition's leader, on connections of
// its own: an answer must not wait behind a consumer's fetch. Its methods may be called by anybody.
type Ends struct {
	cluster         *Cluster
	clientID, topic string
	partition       int32
	tell            func(error)
	ask             chan struct{} // capacity 1: somebody wants an answer soon

	mu      sync.Mutex // guards the following
	last    Bounds
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
	for ctx.Err() == nil {
		err := e.serve(ctx, func(b Bounds) {
			e.mu.Lock()
			e.last = b
			close(e.changed)
			e.changed = make(chan struct{})
			e.mu.Unlock()
			wait.Worked()
			e.tell(nil)
		})
		wait.Failed(ctx, err)
	}
}

// serve connects, and asks until there is no answer.
func (e *Ends) serve(ctx context.Context, answered func(Bounds)) error {
	session, err := e.cluster.NewSession(ctx, e.clientID, e.topic)
	if err != nil {
		return err
	}
	defer session.Close()
	pause := time.NewTicker(endsEvery)
	defer pause.Stop()
	for {
		late := time.AfterFunc(endsTimeout, func() { session.end(context.DeadlineExceeded) })
		b, err := session.Bounds(e.partition)
		late.Stop()
		if err != nil {
			return err
		}
		answered(b)
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
func (e *Ends) Ask(ctx context.Context) (Bounds, error) {
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
			return Bounds{}, fmt.Errorf("the broker did not say where partition %d of topic %q ends: %w", e.partition, e.topic, ctx.Err())
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

// Last returns the newest answer; its Asked is zero if there is none.
func (e *Ends) Last() Bounds {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}
