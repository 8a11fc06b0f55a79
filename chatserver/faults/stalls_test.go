//go:build faults

package faults

import (
	"context"
	"sync"
	"time"
)

// stalls are the times in which this process got no processor.
type stalls struct {
	mu  sync.Mutex
	all [][2]time.Time
}

// watch notes the stalls until ctx ends.
func (s *stalls) watch(ctx context.Context) {
	const tick, late = 5 * time.Millisecond, 20 * time.Millisecond
	for last := time.Now(); ctx.Err() == nil; {
		sleep(ctx, tick)
		now := time.Now()
		if now.Sub(last) > late {
			s.mu.Lock()
			s.all = append(s.all, [2]time.Time{last, now})
			s.mu.Unlock()
		}
		last = now
	}
}

// within is how long the stalls took that overlap with the time from one moment to another.
func (s *stalls) within(from, to time.Time) (d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stall := range s.all {
		if stall[1].After(from) && stall[0].Before(to) {
			d += stall[1].Sub(stall[0])
		}
	}
	return d
}

func count[T any](all []T, is func(T) bool) (n int) {
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
