package history

import (
	"context"
	"errors"
	"time"
)

// Reached is called several times a second with the offset before which everything has been received,
// -1 while no fetch has been answered.
func (h *History) Reached(offset int64) {
	if offset >= 0 {
		h.answered()
	}
	h.mu.Lock()
	h.reached = max(h.reached, offset)
	h.mu.Unlock()
	h.progress()
}

// progress notes that the log has what there was when it was begun, and logs how far loading is.
func (h *History) progress() {
	h.mu.Lock()
	was, at, end := h.state, max(h.next, h.reached), h.target
	if was == loading && (h.reached >= end || h.last != nil && h.next >= end) { // by an answered fetch
		h.state, h.ready = live, true
	}
	now := h.state
	h.mu.Unlock()
	switch {
	case was != loading:
	case now == live:
		h.Log.Info("the topic has been read", "end", end, "took", time.Since(h.began).Round(time.Millisecond))
		h.Changed()
	case time.Since(h.said) >= progressEvery:
		h.said = time.Now()
		h.Log.Info("the topic is being read", "offset", at, "end", end)
	}
}

// answered notes that the topic can be read.
func (h *History) answered() {
	if h.why == nil { // only the writing goroutine changes it
		return
	}
	h.mu.Lock()
	h.why = nil
	h.mu.Unlock()
	h.wait.Worked()
	h.Report(nil)
}

// Interrupted takes note of why reading the topic has ended, and returns when it should be tried
// again; false says that ctx has ended.
func (h *History) Interrupted(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch {
	case errors.Is(err, ErrAnotherTopic):
		h.Log.Warn("the chat starts anew", "err", err)
		h.mu.Lock()
		h.state = unknown
		h.counters.Resets++
		h.mu.Unlock()
		return true
	}
	h.mu.Lock()
	h.why = err
	h.mu.Unlock()
	h.Report(err)
	return h.wait.Failed(ctx, err)
}
