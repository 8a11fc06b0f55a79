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

// Producer is the part of the pod that writes to Kafka, in reports and in client ids.
const Producer = "producer"

const (
	slowAfter = 3 * time.Second  // a send that takes so long is a sign that Kafka is away
	hungAfter = 10 * time.Second // and one that takes so long is given up
)

var (
	errRefused = errors.New("no messages are taken by Kafka now")
	errSlow    = fmt.Errorf("no answer to a message from Kafka for %v", slowAfter)
	errStopped = errors.New("the server is stopping")
)

// Reason returns, for a person in the chat, why Kafka cannot be used. Why is the error that a part
// of the pod has reported; if it is nil, the reason is "".
func Reason(why error) string {
	switch {
	case why == nil:
		return ""
	case errors.Is(why, errRefused):
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

// send calls f with the current producer. When ctx ends it returns, but the send goes on.
func (p *Publisher) send(ctx context.Context, f Send) (offset int64, err error) {
	g, err := p.enter()
	if err != nil {
		return 0, err
	}
	var (
		sent   = make(chan struct{})
		at     int64
		failed error
	)
	go func() {
		defer close(sent)
		hung := time.AfterFunc(hungAfter, func() {
			p.log.Warn("a send to Kafka has hung; its connections are closed")
			p.retire(g)
		})
		_, at, failed = f(g.producer)
		hung.Stop()
		g.sends.Done()
		switch {
		case failed == nil:
			p.mu.Lock()
			p.pause = 0
			p.mu.Unlock()
		case kafka.KindOf(failed) != kafka.Permanent:
			p.retire(g)
		}
	}()
	slow := time.NewTimer(slowAfter)
	defer slow.Stop()
	for {
		select {
		case <-sent:
			p.report(Producer, health(failed))
			return at, failed
		case <-slow.C:
			p.report(Producer, errSlow)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// health returns what the outcome of a send says about Kafka. If Kafka refuses a message for good,
// the fault is in the message.
func health(err error) error {
	var answer sarama.KError
	switch {
	case kafka.KindOf(err) == kafka.Permanent:
		return nil
	case errors.As(err, &answer):
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// enter returns the current generation, with a send counted in it.
func (p *Publisher) enter() (*generation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errStopped
	}
	if p.current == nil {
		life, cut := context.WithCancel(context.Background())
		// This does not connect yet, so it does not wait.
		producer, err := sarama.NewSyncProducer(p.cluster.Brokers, p.cluster.Config(life, p.clientID))
		if err != nil {
			cut()
			return nil, err
		}
		p.current = &generation{producer: producer, cut: cut}
	}
	p.current.sends.Add(1)
	return p.current, nil
}

// retire ends g: its sends fail, and when all have returned its producer is closed. The next try
// comes after a pause.
func (p *Publisher) retire(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g == nil || p.current != g {
		return
	}
	p.current = nil
	p.pause = min(max(2*p.pause, firstPause), longPause)
	p.retry = time.Now().Add(p.pause)
	p.retired.Go(func() {
		g.cut()
		g.sends.Wait()
		g.producer.Close() // its errors have been returned by the sends
	})
}

// Run works until ctx ends; then sending fails, and Run returns when every producer is closed.
// While no call waits, Run takes back the report of a failed send: without sends, no report would
// say that Kafka works again.
func (p *Publisher) Run(ctx context.Context) {
	idle := time.NewTicker(forgetAfter)
	defer idle.Stop()
	for ctx.Err() == nil {
		select {
		case <-idle.C:
			p.mu.Lock()
			nobody := len(p.waiters) == 0
			p.mu.Unlock()
			if nobody {
				p.report(Producer, nil)
			}
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.closed = true
	g := p.current
	p.mu.Unlock()
	p.retire(g)
	p.retired.Wait()
}
