package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The bounds of a topic. kfake keeps every record for ever unless a topic says
// otherwise, and gives memory (or disk) back only by whole segments, so a
// partition holds at most retentionBytes, one segment more, and what arrives
// between two checks.
const (
	retentionBytes = 32 << 20 // of record batches, per partition
	segmentBytes   = retentionBytes / 8
	retentionCheck = 500 * time.Millisecond

	// maxMessageBytes is what one batch may have, Kafka's own default: one
	// megabyte for the records and a little for the header around them.
	maxMessageBytes = 1<<20 + 12
	maxPartitions   = 100 // of one topic
)

// bound changes a request for new topics so that each has the bounds above. A
// client may ask for less, not for more.
//
// Time plays no part (retention.ms=-1): kfake compares against a batch's
// largest timestamp, and clients are free to say anything there.
func bound(req *kmsg.CreateTopicsRequest) {
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.NumPartitions > maxPartitions || t.NumPartitions < -1 || len(t.ReplicaAssignment) > maxPartitions {
			t.NumPartitions, t.ReplicaAssignment = 0, nil // the broker answers INVALID_PARTITIONS
		}
		if t.NumPartitions == -1 && t.ReplicaAssignment == nil {
			t.NumPartitions = 1
		}
		setConfig(t, "retention.ms", "-1")
		atMost(t, "retention.bytes", retentionBytes)
		atMost(t, "segment.bytes", segmentBytes)
		atMost(t, "max.message.bytes", maxMessageBytes)
	}
}

func atMost(t *kmsg.CreateTopicsRequestTopic, name string, limit int64) {
	for _, c := range t.Configs {
		if c.Name != name || c.Value == nil {
			continue
		}
		if n, err := strconv.ParseInt(*c.Value, 10, 64); err == nil && n > 0 && n < limit {
			return
		}
	}
	setConfig(t, name, strconv.FormatInt(limit, 10))
}

// setConfig makes value the only one that name has.
func setConfig(t *kmsg.CreateTopicsRequestTopic, name, value string) {
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = name, &value
	others := slices.DeleteFunc(t.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool { return c.Name == name })
	t.Configs = append(others, c)
}

// createTopic asks the broker at addr for topic, like any client: so the bounds
// come from the one place where they are made. That the topic exists already
// (a data directory) is no error.
func createTopic(ctx context.Context, addr, topic string) error {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(3)
	req.Topics = append(req.Topics, t)
	body, err := roundTrip(ctx, addr, req)
	if err != nil {
		return err
	}
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("asked for one topic, the answer has %d", len(resp.Topics))
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return nil
}

// roundTrip sends one request and returns the body of its answer.
func roundTrip(ctx context.Context, addr string, req kmsg.Request) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if _, err := conn.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("embedded")).AppendRequest(nil, req, 1)); err != nil {
		return nil, err
	}
	var header [8]byte // length, then correlation id
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(header[:4])-4)
	_, err = io.ReadFull(conn, body)
	return body, err
}
