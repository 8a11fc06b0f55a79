package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/sarama"
)

const (
	endsEvery    = time.Second     // between two requests, while the leader answers
	endsTimeout  = 3 * time.Second // for the answer to one request
	endsPatience = time.Second     // shorter failures are not reported
)

// An End is where a partition ends: the offset that its next record gets.
type End struct {
	Offset int64
	Asked  time.Time // just before the request; zero: no answer yet
}

// Ends knows where a partition ends. Ends asks the partition's leader, on connections of its own:
// an answer must not wait until a consumer's fetch ends. Any goroutine may call its methods.
type Ends struct {
	cluster         *Cluster
	clientID, topic string
	partition       int32
	tell            func(error)
	ask             chan struct{} // capacity 1; a value makes Run ask soon

	mu      sync.Mutex // guards last and changed
	last    End
	changed chan struct{} // closed and replaced when last changes
}

// NewEnds returns an Ends that asks while Run runs. Run calls tell: with nil after each answer, and
// with the reason after a second of failures. Tell gets each reason once a minute.
func (c *Cluster) NewEnds(clientID, topic string, partition int32, tell func(error)) *Ends {
	return &Ends{cluster: c, clientID: clientID, topic: topic, partition: partition, tell: tell,
		ask: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run asks once a second, and when Ask or Wake is called, until ctx ends. The pause grows while
// requests fail.
func (e *Ends) Run(ctx context.Context) {
	wait := Wait{After: endsPatience, Say: e.tell}
	for wait.Failed(ctx, e.serve(ctx, &wait)) {
	}
}

// serve connects, and asks until a request fails or ctx ends.
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

// Ask returns the answer to a request that was sent after this call. Ask waits until the leader
// answers or ctx ends.
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

// Wake makes Run ask soon, and does not wait. Last returns the answer when it has come.
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
