package ops

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
)

// errUnknown is why a part is not well that has not reported yet.
var errUnknown = errors.New("no contact with Kafka yet")

// Health knows whether Kafka can be used: each part of the pod that talks to Kafka reports how it
// fares, and Kafka is up when all of them are well. Its methods may be called by all parts at once.
type Health struct {
	log      *slog.Logger
	onChange func(why error)

	mu    sync.Mutex // guards the following; held while onChange runs, so that what it is told last is how things are
	parts []part     // in the order in which their reasons are given
	up    bool       // as onChange has been told
}

type part struct {
	name string
	why  error // nil while it is well
}

// NewHealth returns the health of the named parts, none of which is well yet. When Kafka goes up or
// down, log has it, and onChange is called with nil or the reason. It must not call Health.
func NewHealth(log *slog.Logger, onChange func(why error), parts ...string) *Health {
	h := &Health{log: log, onChange: onChange}
	for _, name := range parts {
		h.parts = append(h.parts, part{name, errUnknown})
	}
	return h
}

// Report notes how a part fares: err is nil while it is well, else why it is not. The last report of a
// part counts.
func (h *Health) Report(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.parts, func(p part) bool { return p.name == name })
	if i < 0 {
		i, h.parts = len(h.parts), append(h.parts, part{name: name})
	}
	h.parts[i].why = err
	why := h.first()
	switch up := why == nil; {
	case up == h.up:
		return
	case up:
		h.log.Info("Kafka is up")
	default:
		h.log.Warn("Kafka is down", "err", why)
	}
	h.up = why == nil
	h.onChange(why)
}

// Why returns nil while all parts are well, else why the first of the others is not.
func (h *Health) Why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first()
}

func (h *Health) first() error {
	for _, p := range h.parts {
		if p.why != nil {
			return p.why
		}
	}
	return nil
}
