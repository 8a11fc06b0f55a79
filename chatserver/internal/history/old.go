package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/internal/kafka"
)

const (
	recordTimeout = 3 * time.Second // for reading one record from Kafka
	oldAtMost     = 4096            // old records that are remembered
)

// taken is in old where retention has taken the record.
const taken = -1

// belongs says whether p, which is older than the log, is of this topic. Only Kafka can say: the
// client may know another topic. A record that retention has taken counts as one of this topic.
// While that is not known, Run finds it out, and Changed is called.
func (h *History) belongs(p framelog.Position) (belongs, known bool) {
	if p.Offset < 0 {
		return true, true // of a client that has seen nothing
	}
	h.mu.Lock()
	record, known := h.old[p.Offset]
	h.mu.Unlock()
	if !known {
		select {
		case h.ask <- p.Offset:
		default: // after Changed it is asked for again
		}
	}
	return record.Offset == taken || record == p, known
}

// Run reads old records from Kafka, one at a time, when somebody needs one, until ctx ends.
func (h *History) Run(ctx context.Context) {
	for {
		select {
		case offset := <-h.ask:
			h.learn(ctx, offset)
		case <-ctx.Done():
			return
		}
	}
}

func (h *History) learn(ctx context.Context, offset int64) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	h.mu.Lock()
	log := h.log
	_, known := h.old[offset]
	h.mu.Unlock()
	if known { // it was asked for once more while it was read
		return
	}
	position := framelog.Position{Offset: taken}
	r, err := h.Record(ctx, offset)
	switch {
	case err == nil:
		position = positionOf(r, chat.Decode(r))
	case !errors.Is(err, sarama.ErrOffsetOutOfRange):
		h.Log.Debug("cannot read an old record", "offset", offset, "err", err)
		return
	}
	h.mu.Lock()
	if h.log == log { // else the record may be one of the topic before
		if len(h.old) >= oldAtMost {
			clear(h.old)
		}
		h.old[offset] = position
	}
	h.mu.Unlock()
	h.Changed()
}

// RecordOf returns a function that reads the record at an offset, or the next one if there is none,
// from partition 0 of the topic. Its error is sarama.ErrOffsetOutOfRange if the topic begins later.
func RecordOf(cluster *kafka.Cluster, clientID, topic string) func(context.Context, int64) (*sarama.ConsumerMessage, error) {
	return func(ctx context.Context, offset int64) (*sarama.ConsumerMessage, error) {
		session, err := cluster.NewSession(ctx, clientID, topic, func(config *sarama.Config) {
			config.Consumer.Fetch.Default = 1 // the broker sends one batch all the same
		})
		if err != nil {
			return nil, err
		}
		defer session.Close()
		partition, err := session.ConsumePartition(topic, 0, offset)
		if err != nil {
			return nil, err
		}
		r, ok := <-partition.Messages()
		if !ok {
			return nil, fmt.Errorf("reading the record at offset %d: %w", offset, session.Err())
		}
		return r, nil
	}
}
