package publish

import (
	"context"
	"time"
)

const (
	settlePause = 50 * time.Millisecond
	settlePoll  = 10 * time.Millisecond // only after a fault, and one poll for all that wait
)

// settle answers those whose send failed when everything that was in the topic after that has
// been read, so that they know whether to send again. It runs until ctx ends.
func (p *Publisher) settle(ctx context.Context) {
	for {
		var batch []*waiter
		select {
		case w := <-p.unsettled:
			batch = append(batch, w)
		case <-ctx.Done():
			return
		}
		for range len(p.unsettled) {
			batch = append(batch, <-p.unsettled)
		}
		// A pause also keeps a topic that cannot be written to from being hammered.
		if !pause(ctx, settlePause) {
			return
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
		epoch, read := p.epochNow(), p.tail.Next()
		end, err := p.out.End(ctx)
		if err != nil {
			return false
		}
		if end < read {
			// The topic is not the one that has been read. Whoever reads it has not noticed yet.
			p.out.Suspect()
			if !pause(ctx, settlePause) {
				return false
			}
			continue
		}
		for !p.tail.Reached(end) && epoch == p.epochNow() {
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
