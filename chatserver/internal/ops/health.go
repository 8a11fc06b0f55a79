// Package ops knows whether Kafka can be reached: every part of the pod that talks to Kafka says
// how it fares, and Kafka is up when all of them are well.
package ops

import "sync"

// Health is used by all parts at once.
type Health struct {
	onChange func(up bool)

	telling sync.Mutex // held while onChange runs, so that what it is told last is how things are
	told    bool       // guarded by telling

	mu   sync.Mutex // guards the following; not held while onChange runs
	well map[string]bool
	up   bool
}

// New returns the health of the named parts, none of which is well yet. onChange is called when
// Kafka goes up or down, by one goroutine at a time, and may call Up.
func NewHealth(onChange func(up bool), parts ...string) *Health {
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
	changed := h.up != was
	h.mu.Unlock()
	if changed {
		h.tell()
	}
}

// tell asks again how things are: another part may have changed that since.
func (h *Health) tell() {
	h.telling.Lock()
	defer h.telling.Unlock()
	if up := h.Up(); up != h.told {
		h.told = up
		h.onChange(up)
	}
}

// Up says whether all parts are well.
func (h *Health) Up() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}
