// Package offsets finds places in a partition of a topic: where to start to read, and whether anything is left before an end.
package offsets

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/Shopify/sarama"
)

// A Start says where to start, in any partition.
type Start struct {
	n    int64     // an offset, sarama.OffsetOldest or OffsetNewest
	back int64     // not 0: this many offsets before the end
	time time.Time // not zero: the first record that is not older
}

// ParseStart understands oldest, newest, an offset, -N for the newest N, a time, and a duration before now.
func ParseStart(s string, now time.Time) (Start, error) {
	switch s {
	case "oldest":
		return Oldest(), nil
	case "newest":
		return Start{n: sarama.OffsetNewest}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return Start{back: -n}, nil
		}
		return Start{n: n}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return Start{time: now.Add(-d)}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return Start{time: t}, nil
		}
	}
	return Start{}, errors.New("valid is oldest, newest, an offset such as 42, the newest N as -N, a time such as 2026-01-31T12:00:00, or how long ago, such as 10m")
}

// Oldest is the start of all that there is.
func Oldest() Start { return Start{n: sarama.OffsetOldest} }

// Newest says whether only what comes later is wanted.
func (s Start) Newest() bool { return s == Start{n: sarama.OffsetNewest} }

// in returns the offset in a partition that holds those from oldest to end-1. If what was asked for is not there, skipped
// says so.
func (s Start) in(client sarama.Client, topic string, partition int32, oldest, end int64) (offset int64, skipped string, err error) {
	switch {
	case s.back > 0:
		return max(oldest, end-s.back), "", nil
	case !s.time.IsZero():
		offset, err := client.GetOffset(topic, partition, s.time.UnixMilli())
		if err != nil {
			return 0, "", fmt.Errorf("finding the offset of %v: %w", s.time, err)
		}
		if offset < 0 {
			offset = end // all are older
		}
		return offset, "", nil
	case s.n == sarama.OffsetOldest:
		return oldest, "", nil
	case s.n == sarama.OffsetNewest:
		return end, "", nil
	case s.n < oldest:
		return oldest, fmt.Sprintf("offset %d is gone, the oldest one is %d", s.n, oldest), nil
	case s.n > end:
		return end, fmt.Sprintf("there is no offset %d yet, the next one is %d", s.n, end), nil
	}
	return s.n, "", nil
}

// Find returns where start is in a partition, and the partition's end. If what was asked for is not there, skipped says so.
func Find(client sarama.Client, topic string, partition int32, start Start) (offset, end int64, skipped string, err error) {
	oldest, end, err := bounds(client, topic, partition)
	if err != nil {
		return 0, 0, "", err
	}
	offset, skipped, err = start.in(client, topic, partition, oldest, end)
	return offset, end, skipped, err
}

// Resume returns where to go on in a partition that has no offset any more, and what was lost.
func Resume(client sarama.Client, topic string, partition int32, offset int64) (next int64, lost string, err error) {
	oldest, end, err := bounds(client, topic, partition)
	switch {
	case err != nil:
		return 0, "", err
	case offset < oldest:
		lost = fmt.Sprintf("offsets %d to %d were deleted before they were read", offset, oldest-1)
	case offset > end:
		lost = fmt.Sprintf("it ends at offset %d, though %d was read: the topic is another one, or Kafka has lost records", end, offset-1)
	default:
		return offset, "", nil
	}
	return oldest, lost, nil
}

// bounds returns the oldest offset of a partition and the end, which is the offset that the next record gets.
func bounds(client sarama.Client, topic string, partition int32) (oldest, end int64, err error) {
	if oldest, err = client.GetOffset(topic, partition, sarama.OffsetOldest); err != nil {
		return 0, 0, err
	}
	end, err = client.GetOffset(topic, partition, sarama.OffsetNewest)
	return oldest, end, err
}

// ErrShort means that a partition ends before it should: for a moment, while another broker takes over, or because Kafka has
// lost records or the topic is another one.
var ErrShort = errors.New("the partition is shorter than it was")

// Next returns the offset of the first record from offset on and before end; found is false if there is none. Offsets have
// holes: those of records that were compacted away, and of the markers that end transactions, which no consumer sees. So a
// reader that wants to stop at the end cannot just wait for the record before it.
func Next(client sarama.Client, topic string, partition int32, offset, end int64) (next int64, found bool, err error) {
	for offset < end {
		block, err := fetch(client, topic, partition, offset)
		if err != nil {
			return 0, false, err
		}
		if block.HighWaterMarkOffset < end {
			return 0, false, ErrShort
		}
		if block.LastRecordsBatchOffset == nil {
			return 0, false, nil // a fetch returns at least the first batch that has not ended before its offset
		}
		if len(block.RecordsSet) == 0 { // batches that compaction has emptied; the last of them starts there
			offset = max(offset, *block.LastRecordsBatchOffset) + 1
			continue
		}
		for _, b := range block.RecordsSet {
			if b.MsgSet != nil { // written by a Kafka before 0.11, which knew no transactions
				return offset, true, nil
			}
			if !b.RecordBatch.Control {
				for _, r := range b.RecordBatch.Records {
					if o := b.RecordBatch.FirstOffset + r.OffsetDelta; o >= offset {
						return o, o < end, nil
					}
				}
			}
			offset = max(offset, b.RecordBatch.LastOffset()+1)
		}
	}
	return 0, false, nil
}

// fetch asks the leader for what there is at offset, without waiting for more.
func fetch(client sarama.Client, topic string, partition int32, offset int64) (*sarama.FetchResponseBlock, error) {
	leader, err := client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	request := &sarama.FetchRequest{Version: 11, SessionEpoch: -1, MaxBytes: 1 << 20}
	request.AddBlock(topic, partition, offset, 64<<10, -1)
	response, err := leader.Fetch(request)
	if err != nil {
		leader.Close()
		client.RefreshMetadata(topic)
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	switch {
	case block == nil, response.ThrottleTime > 0 && block.LastRecordsBatchOffset == nil:
		return nil, sarama.ErrIncompleteResponse
	case block.Err != sarama.ErrNoError:
		client.RefreshMetadata(topic)
		return nil, block.Err
	}
	return block, nil
}
