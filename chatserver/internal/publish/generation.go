package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

const (
	slowAfter = 3 * time.Second  // a send that takes so long is a sign that Kafka is away
	hungAfter = 10 * time.Second // and one that takes so long is given up
)

var (
	// ErrRefused is in what a Publisher reports when Kafka answers, and takes no messages.
	ErrRefused = errors.New("no messages are taken by Kafka now")
	errSlow    = fmt.Errorf("no answer to a message from Kafka for %v", slowAfter)
	errStopped = errors.New("the server is stopping")
)

// Reason says to a person in the chat why Kafka cannot be used: why is what the parts of the pod have
// reported, or nil; then the reason is "".
func Reason(why error) string {
	switch {
	case why == nil:
		return ""
	case errors.Is(why, ErrRefused):
		return "Kafka does not take messages now"
	}
	return "Kafka is not reachable"
}

// A generation is a producer with connections of its own. The first failure ends it, and so
// does a send that takes too long: its sockets are closed for good, so that no copy of a message
// can land minutes later.
type generation struct {
	producer sarama.SyncProducer
	cut      context.CancelFunc
	sends    sync.WaitGroup
}

// send calls f with the current producer and returns the epoch of the log in which it began.
func (p *Publisher) send(ctx context.Context, f func(sarama.SyncProducer) (int32, int64, error)) (epoch int, offset int64, err error) {
	g, epoch, err := p.enter(ctx)
	if err != nil {
		return epoch, 0, err
	}
	told := p.health.begin()
	hung := time.AfterFunc(p.hungAfter, func() {
		p.log.Warn("a send to Kafka has hung; its connections are closed")
		p.retire(g)
	})
	_, offset, err = f(g.producer)
	hung.Stop()
	g.sends.Done()
	if err != nil && kafka.KindOf(err) != kafka.Permanent {
		p.retire(g)
		told(err)
	} else {
		told(nil)
	}
	return epoch, offset, err
}

// enter returns the current generation, with the send counted in it.
func (p *Publisher) enter(ctx context.Context) (*generation, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, p.epoch, errStopped
	}
	if err := ctx.Err(); err != nil {
		return nil, p.epoch, err
	}
	if p.current == nil {
		life, cut := context.WithCancel(context.Background())
		// This does not connect yet, so it does not wait.
		producer, err := sarama.NewSyncProducer(p.cluster.Brokers, p.cluster.Config(life, p.clientID))
		if err != nil {
			cut()
			return nil, p.epoch, err
		}
		p.current = &generation{producer: producer, cut: cut}
	}
	p.current.sends.Add(1)
	return p.current, p.epoch, nil
}

// retire ends g: its sends fail, and when all have returned its producer is closed.
func (p *Publisher) retire(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g == nil || p.current != g {
		return
	}
	p.current = nil
	p.retired.Go(func() {
		g.cut()
		g.sends.Wait()
		g.producer.Close() // its errors have been returned by the sends
	})
}

// health tells whether Kafka takes messages.
type health struct {
	report func(error)

	mu      sync.Mutex // guards the following; held while report runs, so that its last call says how things are
	failing error      // what report was told last
}

// begin watches a send. What it returns is called with the outcome.
func (h *health) begin() (end func(error)) {
	over := false // guarded by h.mu
	slow := time.AfterFunc(slowAfter, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !over {
			h.tell(errSlow)
		}
	})
	return func(err error) {
		slow.Stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		over = true
		var answer sarama.KError
		if errors.As(err, &answer) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		h.tell(err)
	}
}

// tell reports a change. It needs h.mu.
func (h *health) tell(err error) {
	if err == nil && h.failing == nil {
		return
	}
	h.failing = err
	h.report(err)
}

// isFailing says whether the last send failed.
func (h *health) isFailing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing != nil
}

// forget takes back that sends fail, when nobody waits any more who would find out that they do not.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(nil)
}
