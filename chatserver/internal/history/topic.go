package history

import (
	"context"
	"net/url"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/sockets"
	"kafkachat/internal/kafka"
)

// Connect makes the topic if there is none, opens a session to read it, and says from which offset on
// it is to be read. It belongs to the writing goroutine.
func (h *History) Connect(ctx context.Context, cluster *kafka.Cluster, clientID, topic string) (session *kafka.Session, from int64, err error) {
	if err := h.ensure(ctx, cluster, topic); err != nil {
		return nil, 0, err
	}
	if session, err = cluster.NewSession(ctx, clientID, topic); err != nil {
		return nil, 0, err
	}
	bounds, err := session.Bounds(0)
	if err != nil {
		session.Close()
		return nil, 0, err
	}
	from, another := h.Open(bounds.Oldest, bounds.Newest)
	if another {
		h.Anew()
	}
	h.Log.Info("reading the topic", "topic", topic, "from", from, "end", bounds.Newest)
	return session, from, nil
}

// ensure makes the topic if there is none, and tells an operator what may hold the chat up.
func (h *History) ensure(ctx context.Context, cluster *kafka.Cluster, topic string) error {
	state, err := cluster.EnsureTopic(ctx, topic, nil)
	if err != nil {
		return err
	}
	if state.Made {
		h.Log.Info("made the topic", "topic", topic)
	}
	known := h.partitions.Swap(state.Partitions)
	if state.Partitions > 1 && known != state.Partitions {
		h.Log.Warn("the topic has several partitions, and the chat is only in partition 0", "topic", topic, "partitions", state.Partitions)
	}
	if mend := state.Mend(topic); mend != "" && known == 0 {
		h.Log.Warn("the topic cannot be written to while one of its brokers is away: give it another copy with kafka-reassign-partitions.sh, or ask for one less",
			"topic", topic, "copies", state.Copies, "min.insync.replicas", state.MinInSync, "mend", mend)
	}
	return nil
}

// Partitions is how many the topic has, 0 until that is known.
func (h *History) Partitions() int32 { return h.partitions.Load() }

// Places decides where a client starts that comes with this query: with chat.v1, and without. Welcome
// returns what the client is told of the pod. An error is a fault of the query.
func (h *History) Places(query url.Values, welcome func() chat.Welcome) (asChat, asRaw sockets.Place, err error) {
	request, err := Parse(query)
	if err != nil {
		return nil, nil, err
	}
	c := h.Arrive(request, welcome)
	return c.Chat, c.Raw, nil
}
