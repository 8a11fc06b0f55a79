// Package health knows whether Kafka can be reached: every part of the pod that talks to Kafka says
// how it fares, and Kafka is up when all of them are well.
package health

import "sync"

// Health is used by all parts at once.
type Health struct {
	onChange func(up bool)

	mu   sync.Mutex // guards the following
	well map[string]bool
	up   bool
}

// New returns the health of the named parts, none of which is well yet. onChange is called when
// Kafka goes up or down, without a lock held.
func New(onChange func(up bool), parts ...string) *Health {
	h := &Health{onChange: onChange, well: make(map[string]bool)}
	for _, part := range parts {
		h.well[part] = false
	}
	return h
}

// Set notes how a part fares.
func (h *Health) Set(part string, well bool) {
	h.mu.Lock()
	h.well[part] = well
	was := h.up
	h.up = true
	for _, well := range h.well {
		h.up = h.up && well
	}
	up := h.up
	h.mu.Unlock()
	if up != was {
		h.onChange(up)
	}
}

// Up says whether all parts are well.
func (h *Health) Up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}
