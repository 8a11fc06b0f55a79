package publish

import (
	"context"
	"fmt"
	"time"
)

const (
	// Before the topic is searched for what may have been sent there is a pause. It grows while no
	// message is taken, so that a topic that cannot be written to is not hammered.
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
	settlePoll = 10 * time.Millisecond // only after a fault, and one poll for all that wait
	// forgetAfter is the time after which it counts for nothing that the last send has failed, if
	// nobody sends any more.
	forgetAfter = 10 * time.Second
)

// settle answers those whose send failed when everything that was in the topic after that has
// been read, so that they know whether to send again. It runs until ctx ends.
func (p *Publisher) settle(ctx context.Context) {
	wait := firstPause
	idle := time.NewTicker(forgetAfter)
	defer idle.Stop()
	for {
		var batch []*waiter
		select {
		case w := <-p.unsettled:
			batch = append(batch, w)
		case <-idle.C:
			if p.count.Load() == 0 {
				p.health.forget()
			}
			continue
		case <-ctx.Done():
			return
		}
		if wait = min(2*wait, longPause); !p.health.isFailing() {
			wait = firstPause
		}
		if !pause(ctx, wait) {
			return
		}
		for range len(p.unsettled) {
			batch = append(batch, <-p.unsettled)
		}
		if !p.catchUp(ctx) {
			return
		}
		for _, w := range batch {
			tell(w.settled, struct{}{})
		}
	}
}

// catchUp returns when everything that is in the topic when it is called has been read, or false
// when ctx has ended.
func (p *Publisher) catchUp(ctx context.Context) bool {
	for {
		epoch, read := p.epochNow(), p.history.Next()
		end, err := p.history.End(ctx)
		if err != nil {
			return false
		}
		if end < read {
			// The topic is not the one that has been read. Whoever reads it has not noticed yet.
			p.history.Suspect()
			if !pause(ctx, firstPause) {
				return false
			}
			continue
		}
		for !p.history.HasRead(end) && epoch == p.epochNow() {
			if !pause(ctx, settlePoll) {
				return false
			}
		}
		if epoch == p.epochNow() {
			return true
		}
	}
}

func (p *Publisher) epochNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

// search waits until everything that is in the topic now has been read, and says whether w's
// message is in it.
func (p *Publisher) search(ctx context.Context, w *waiter) (shown int64, found bool, err error) {
	select {
	case p.unsettled <- w:
	case <-ctx.Done():
	}
	select {
	case shown := <-w.seen:
		return shown, true, nil
	case <-w.settled:
	case <-ctx.Done():
		return 0, false, fmt.Errorf("waiting for Kafka: %w", ctx.Err())
	}
	select {
	case shown := <-w.seen: // perhaps so long ago that the window has forgotten it
		return shown, true, nil
	default:
	}
	shown, found = p.history.Find(w.id)
	return shown, found, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
