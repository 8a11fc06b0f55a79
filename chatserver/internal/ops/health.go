package ops

import (
	"errors"
	"log/slog"
	"sync"
)

// ErrUnknown is why a part is not well that has not reported yet.
var ErrUnknown = errors.New("no contact with Kafka yet")

// Health knows whether Kafka can be used: each part of the pod that talks to Kafka reports how it
// fares, and Kafka is up when all of them are well. Its methods may be called by all parts at once.
type Health struct {
	log      *slog.Logger
	onChange func(why error)

	telling sync.Mutex // held while onChange runs, so that what it is told last is how things are
	toldUp  bool       // guarded by telling

	mu    sync.Mutex // guards the following; not held while onChange runs
	parts []string   // in the order in which their reasons are given
	why   map[string]error
}

// NewHealth returns the health of the named parts, none of which is well yet. When Kafka goes up or
// down, log has it, and onChange is called with nil or the reason; by one goroutine at a time. It may
// call Why.
func NewHealth(log *slog.Logger, onChange func(why error), parts ...string) *Health {
	h := &Health{log: log, onChange: onChange, why: make(map[string]error)}
	for _, part := range parts {
		h.set(part, ErrUnknown)
	}
	return h
}

// Report notes how a part fares: err is nil while it is well, else why it is not. The reports of one
// part must not overlap, since the last one counts.
func (h *Health) Report(part string, err error) {
	h.set(part, err)
	h.telling.Lock()
	defer h.telling.Unlock()
	// How things are is asked again: another part may have changed that since.
	if why := h.Why(); (why == nil) != h.toldUp {
		if h.toldUp = why == nil; h.toldUp {
			h.log.Info("Kafka is up")
		} else {
			h.log.Warn("Kafka is down", "err", why)
		}
		h.onChange(why)
	}
}

func (h *Health) set(part string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.why[part]; !known {
		h.parts = append(h.parts, part)
	}
	h.why[part] = err
}

// Why returns nil while all parts are well, else why the first of the others is not.
func (h *Health) Why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, part := range h.parts {
		if err := h.why[part]; err != nil {
			return err
		}
	}
	return nil
}
