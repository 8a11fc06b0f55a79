package publish

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Shopify/sarama"
)

// What is reported last is how things are: a send that took long and worked after all does not leave
// Kafka down, and an answer that refuses is told as such.
func TestHealthOfSends(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, c := range map[string]struct {
		steps func(h *health)
		want  []error
	}{
		"quick": {func(h *health) { h.begin()(nil) }, nil},
		"slow, then it works": {func(h *health) {
			end := h.begin()
			time.Sleep(slowAfter + time.Second)
			end(nil)
		}, []error{errSlow, nil}},
		"fails, and fails, and works": {func(h *health) {
			h.begin()(away)
			h.begin()(away)
			h.begin()(nil)
		}, []error{away, away, nil}},
		"refused": {func(h *health) { h.begin()(sarama.ErrNotEnoughReplicas) }, []error{ErrRefused}},
		"fails, and nobody waits": {func(h *health) {
			h.begin()(away)
			h.forget()
			h.forget()
		}, []error{away, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []error
				c.steps(&health{report: func(err error) { told = append(told, err) }})
				if len(told) != len(c.want) {
					t.Fatalf("told %v, want %v", told, c.want)
				}
				for i, want := range c.want {
					if !errors.Is(told[i], want) {
						t.Errorf("told %v, want %v", told, c.want)
					}
				}
			})
		})
	}
}

// A send that comes to its end in the moment in which it counts as slow is not told as slow last.
func TestHealthAtTheEdge(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var last error
			h := &health{report: func(err error) { last = err }}
			end := h.begin()
			time.Sleep(slowAfter)
			end(nil)
			synctest.Wait()
			if last != nil {
				t.Fatal(last)
			}
		})
	}
}

func TestHealthIsToldInOrder(t *testing.T) {
	t.Parallel()
	var last error
	h := &health{report: func(err error) { last = err }} // the race detector watches that calls do not overlap
	var sends sync.WaitGroup
	for i := range 8 {
		sends.Go(func() {
			for n := range 500 {
				h.begin()([]error{nil, errors.New("away")}[(n+i)%2])
			}
		})
	}
	sends.Wait()
	if !errors.Is(last, h.failing) || (last == nil) != (h.failing == nil) {
		t.Errorf("told last %v, and it is %v", last, h.failing)
	}
}
