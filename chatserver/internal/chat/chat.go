// Package chat translates between a chat message, the Kafka record that carries the message and the
// JSON that clients see. The package is pure: no I/O, no goroutines, no clocks.
//
// The value of a record is the text and nothing else, so that kafkaread prints the chat and a
// line of kafkawrite is a message. Everything else is a header.
package chat

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Shopify/sarama"
)

// The headers of a record.
const (
	headerID   = "id"
	headerName = "name"
	headerPod  = "pod"
)

// Bounds of a message, in bytes. Text that other programs write to the topic may be longer. A pod
// shows it up to MaxForeign, since it keeps in memory what it shows.
const (
	MinID      = 16 // shorter ids are not random enough: two scripts that count from 1 would swallow each other's messages
	MaxID      = 64
	MaxName    = 64
	MaxText    = 8 << 10 // of a text, unless the environment says otherwise
	MaxForeign = 1 << 20
	MaxPod     = 253 // the limit of a name in Kubernetes
)

// A Message is a chat message as it stands in the topic. ID, Name and Pod are empty for records
// that another program wrote without them.
type Message struct {
	Offset      int64     `json:"offset"`
	Time        time.Time `json:"-"`
	ID          string    `json:"id,omitempty"`
	Name        string    `json:"name,omitempty"`
	Pod         string    `json:"pod,omitempty"`
	Text        string    `json:"text"`
	Placeholder bool      `json:"placeholder,omitempty"` // Text is a description of a value that is not text
}

// Headers returns the headers of the record that carries m.
func Headers(m Message) []sarama.RecordHeader {
	headers := []sarama.RecordHeader{
		{Key: []byte(headerID), Value: []byte(m.ID)},
		{Key: []byte(headerPod), Value: []byte(m.Pod)},
	}
	if m.Name != "" {
		headers = append(headers, sarama.RecordHeader{Key: []byte(headerName), Value: []byte(m.Name)})
	}
	return headers
}

// Decode reads any record, also one that another program wrote: a header that is not valid
// counts as absent, and a value that is not text becomes a placeholder.
func Decode(r *sarama.ConsumerMessage) Message {
	m := Message{Offset: r.Offset, Time: r.Timestamp}
	for _, h := range r.Headers {
		value := h.Value
		switch string(h.Key) {
		case headerID:
			if id := string(value); CheckID(id) == nil {
				m.ID = id
			}
		case headerName:
			if name := string(value); CheckName(name) == nil {
				m.Name = name
			}
		case headerPod:
			if len(value) <= MaxPod && utf8.Valid(value) {
				m.Pod = string(value)
			}
		}
	}
	switch {
	case !utf8.Valid(r.Value):
		m.Text, m.Placeholder = fmt.Sprintf("(%d bytes that are not text)", len(r.Value)), true
	case len(r.Value) > MaxForeign:
		m.Text, m.Placeholder = fmt.Sprintf("(%d bytes of text, too long to show)", len(r.Value)), true
	default:
		m.Text = string(r.Value)
	}
	return m
}

// CheckID returns an error that a person understands if id cannot be a message's id.
func CheckID(id string) error {
	if len(id) < MinID || len(id) > MaxID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("the id must be %d to %d printable ASCII characters and random, for example a UUID", MinID, MaxID)
	}
	return nil
}

// CheckName returns an error that a person understands if name cannot be a person's name.
func CheckName(name string) error {
	if len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("the name must have at most %d bytes, and no characters that cannot be shown", MaxName)
	}
	return nil
}

// CheckPod returns an error that a person understands if name cannot be a pod's name: a record's
// header carries the name, and the page shows the name. A valid name has no character that turns or
// hides the text around the name, as U+202E does.
func CheckPod(name string) error {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if name == "" || len(name) > MaxPod || !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable) {
		return fmt.Errorf("valid is a name of 1 to %d bytes of printable UTF-8", MaxPod)
	}
	return nil
}

// Sum returns a sum over a record, so that another log with the same offsets is noticed. All pods
// compute the same sum, since Kafka stores the record's time, id and value.
func Sum(r *sarama.ConsumerMessage, id string) uint32 {
	var millis [8]byte
	binary.BigEndian.PutUint64(millis[:], uint64(r.Timestamp.UnixMilli()))
	table := crc32.MakeTable(crc32.Castagnoli) // shared and cached by the library
	sum := crc32.Update(0, table, millis[:])
	sum = crc32.Update(sum, table, []byte(id))
	return crc32.Update(sum, table, r.Value)
}
