package history

import (
	"context"
	"errors"
	"time"

	"kafkachat/internal/kafka"
)

// progressEvery is the time between two lines in the log while a topic is loaded.
const progressEvery = 10 * time.Second

// Connect makes the topic if it does not exist, opens a session, and returns the offset from which
// to read. After Connect, Frames may return another log.
func (h *History) Connect(ctx context.Context) (session *kafka.Session, from int64, err error) {
	if err := h.ensure(ctx); err != nil {
		return nil, 0, err
	}
	if session, err = h.Cluster.NewSession(ctx, h.ClientID(Consumer), h.Topic); err != nil {
		return nil, 0, err
	}
	read := int64(0) // the offset before which the log has read, or will read
	if h.state != unknown {
		read = max(h.next, h.target)
	}
	bounds, err := session.Resume(0, read, h.last)
	if err != nil {
		session.Close()
		return nil, 0, err
	}
	from = h.open(bounds.Oldest, bounds.Newest)
	h.Log.Info("reading the topic", "topic", h.Topic, "from", from, "end", bounds.Newest)
	return session, from, nil
}

// ensure makes the topic if it does not exist, and warns the operator of settings that may stop the
// chat.
func (h *History) ensure(ctx context.Context) error {
	topic, err := h.Cluster.EnsureTopic(ctx, h.Topic, nil)
	if err != nil {
		return err
	}
	h.mu.Lock()
	known := h.stats.Partitions == topic.Partitions
	h.stats.Partitions = topic.Partitions
	h.mu.Unlock()
	if topic.Made {
		h.Log.Info("made the topic", "topic", h.Topic)
	}
	if topic.Partitions > 1 && !known {
		h.Log.Warn("the topic has several partitions, and the chat is only in partition 0", "topic", h.Topic, "partitions", topic.Partitions)
	}
	if mend := topic.Mend(h.Topic); mend != "" && !known {
		h.Log.Warn("nobody can write to the topic while one of its brokers is away: add a replica with kafka-reassign-partitions.sh, or lower min.insync.replicas with the command in mend",
			"topic", h.Topic, "replicas", topic.Copies, "min.insync.replicas", topic.MinInSync, "mend", mend)
	}
	return nil
}

// Reached notes that all before offset has been received, transaction markers included; -1 means
// that nothing has. Reached is called after each record and each answered fetch.
func (h *History) Reached(offset int64) {
	if offset < 0 {
		return
	}
	h.mu.Lock()
	h.next = max(h.next, offset)
	wasFailing, wasLoading := h.why != nil, h.state == loading
	h.why = nil
	if wasLoading && h.next >= h.target {
		h.state, h.ready = live, true
	}
	h.mu.Unlock()
	if wasFailing {
		h.wait.Worked()
		h.Report(Consumer, nil)
	}
	switch {
	case !wasLoading:
	case h.state == live:
		h.Log.Info("the topic has been read", "end", h.target)
	case time.Since(h.said) >= progressEvery:
		h.said = time.Now()
		h.Log.Info("the topic is being read", "offset", h.next, "end", h.target)
	}
}

// Interrupted notes why reading the topic has ended, and returns true when the caller should try
// again. It returns false if ctx has ended.
func (h *History) Interrupted(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	anew := errors.Is(err, kafka.ErrAnotherTopic)
	h.mu.Lock()
	if anew {
		h.state, h.last = unknown, nil
		h.stats.Resets++
	} else {
		h.why = err
	}
	h.mu.Unlock()
	if anew {
		h.Log.Warn("the chat starts anew", "err", err)
		return true
	}
	h.Report(Consumer, err)
	return h.wait.Failed(ctx, err)
}
