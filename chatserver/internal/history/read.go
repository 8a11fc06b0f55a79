package history

import (
	"context"
	"fmt"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
)

// Frames returns the frame log, and whether it has what the topic had when the log was begun.
func (h *History) Frames() (log *framelog.Log, loaded bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log, h.state == live
}

// Ready returns nil once the topic has been read, and for ever after; until then, why it has not been
// and how far it has.
func (h *History) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ready:
		return nil
	case h.why != nil:
		return fmt.Errorf("the topic cannot be read yet: %w", h.why)
	}
	return fmt.Errorf("the topic is being read: offset %d of %d has been reached", max(h.next, h.reached), h.target)
}

// Find returns the offset of the record with this id that is shown, if a record that came next would
// be a copy of it.
func (h *History) Find(id string) (shown int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.window.Find(id)
}

// Next returns the offset up to which everything has been read. Behind the last record there may be
// markers, which nobody gets and which count as read.
func (h *History) Next() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.next, h.reached)
}

// Reading returns the offset before which everything has been read, and the number of the consumer
// that reads.
func (h *History) Reading() (next int64, consumer int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == unknown {
		return 0, h.consumer
	}
	return max(h.next, h.reached), h.consumer
}

// Behind says whether so much of the topic may be missing here that a message which a client sends
// again could be taken for a new one.
func (h *History) Behind() bool {
	end := h.Ends.Last()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why != nil || h.state != live || time.Since(end.Asked) > endIsOld || end.Newest-h.next > chat.WindowSize/2
}

// End asks Kafka where the topic ends.
func (h *History) End(ctx context.Context) (int64, error) {
	bounds, err := h.Ends.Ask(ctx)
	return bounds.Newest, err
}

// Counters returns the counts.
func (h *History) Counters() Counters {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counters
}
