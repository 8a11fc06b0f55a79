package ops

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// Health knows whether Kafka can be used. Each part of the pod that uses Kafka reports its state,
// and Kafka is up when all parts are well. All parts may call the methods at once.
type Health struct {
	log      *slog.Logger
	onChange func(why error)

	mu    sync.Mutex       // guards the following; held while onChange runs, so that its last call has the current state
	parts map[string]error // why each is not well; nil while it is
	up    bool             // as onChange was told last
}

// NewHealth returns the health of the named parts, none of which is well yet. When Kafka goes up or
// down, the change is logged, and onChange is called with nil or the reason. onChange must not call
// Health.
func NewHealth(log *slog.Logger, onChange func(why error), parts ...string) *Health {
	h := &Health{log: log, onChange: onChange, parts: make(map[string]error)}
	unknown := errors.New("no contact with Kafka yet")
	for _, name := range parts {
		h.parts[name] = unknown
	}
	return h
}

// Report notes the state of a part: err is nil while the part is well, else why it is not. The last
// report of a part counts.
func (h *Health) Report(part string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[part] = err
	why := h.first()
	if h.up == (why == nil) {
		return
	}
	if h.up = why == nil; h.up {
		h.log.Info("Kafka is up")
	} else {
		h.log.Warn("Kafka is down", "err", why)
	}
	h.onChange(why)
}

// Why returns nil while all parts are well, else why the first of the others is not.
func (h *Health) Why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first()
}

func (h *Health) first() error {
	for _, part := range slices.Sorted(maps.Keys(h.parts)) {
		if why := h.parts[part]; why != nil {
			return why
		}
	}
	return nil
}

// Check answers whether a pod is well: with 200, or with 503 and the first reason why it is not.
func Check(reasons ...func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, why := range reasons {
			if err := why(); err != nil {
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}
