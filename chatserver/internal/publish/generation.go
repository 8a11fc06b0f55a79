package publish

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"
)

// A generation is a producer with connections of its own. The first failure ends it, and so
// does a send that takes too long: its sockets are closed for good, so that no copy of a message
// can land minutes later.
type generation struct {
	producer sarama.SyncProducer
	cancel   context.CancelFunc
	sends    sync.WaitGroup
	// started counts the sends under way by the tick in which they began, modulo its length; a
	// count that is still there after sendTimeout is of a send that is too old.
	started [2 * sendTimeoutTicks]atomic.Int64
	tick    atomic.Int64
}

const (
	tick             = time.Second
	sendTimeoutTicks = 10 // a send is given up after 10 to 11 ticks
	slowTicks        = 3  // and a sign that Kafka is away after 3 to 4
)

var errStopped = errors.New("the server is stopping")

// send calls f with the current producer and returns the epoch of the log in which it began.
func (p *Publisher) send(ctx context.Context, f func(sarama.SyncProducer) (int32, int64, error)) (epoch int, offset int64, err error) {
	g, epoch, err := p.enter(ctx)
	if err != nil {
		return epoch, 0, err
	}
	began := &g.started[g.tick.Load()%int64(len(g.started))]
	began.Add(1)
	_, offset, err = f(g.producer)
	began.Add(-1)
	g.sends.Done()
	if err != nil && !permanent(err) {
		p.retire(g)
	}
	p.note(err == nil || permanent(err))
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
		life, cancel := context.WithCancel(context.Background())
		// This does not connect yet, so it does not wait.
		producer, err := sarama.NewSyncProducer(p.cluster.Brokers, p.cluster.Config(life, p.clientID))
		if err != nil {
			cancel()
			return nil, p.epoch, err
		}
		p.current = &generation{producer: producer, cancel: cancel}
	}
	p.current.sends.Add(1)
	return p.current, p.epoch, nil
}

// retire ends g: its sends fail, and when all have returned its producer is closed.
func (p *Publisher) retire(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == g {
		p.current = nil
		p.retired.Add(1)
		go func() {
			defer p.retired.Done()
			g.cancel()
			g.sends.Wait()
			g.producer.Close() // its errors have been returned by the sends
		}()
	}
}

// note tells when sending begins to fail, or works again.
func (p *Publisher) note(up bool) {
	p.mu.Lock()
	changed := p.up != up
	p.up = up
	p.mu.Unlock()
	if changed {
		p.out.OnChange(up)
	}
}

// Run keeps the producers and answers those whose send failed, until ctx ends; then sending
// fails, and it returns when every producer is closed.
func (p *Publisher) Run(ctx context.Context) {
	var settler sync.WaitGroup
	settler.Go(func() { p.settle(ctx) })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			p.age()
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.closed = true
	g := p.current
	p.mu.Unlock()
	if g != nil {
		p.retire(g)
	}
	settler.Wait()
	p.retired.Wait()
}

// age counts a tick, and ends the generation if one of its sends is too old.
func (p *Publisher) age() {
	p.mu.Lock()
	g := p.current
	p.mu.Unlock()
	if g == nil {
		return
	}
	now := g.tick.Add(1)
	if g.since(now, slowTicks) {
		p.note(false)
	}
	if g.since(now, sendTimeoutTicks) {
		p.log.Warn("a send to Kafka has hung; its connections are closed")
		p.retire(g)
	}
}

// since says whether a send is under way that began ticks or more before now.
func (g *generation) since(now int64, ticks int64) bool {
	for at := now - sendTimeoutTicks - 1; at <= now-ticks-1; at++ {
		if at >= 0 && g.started[at%int64(len(g.started))].Load() > 0 {
			return true
		}
	}
	return false
}
