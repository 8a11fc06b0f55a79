package chat

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// Protocol is the name of the websocket subprotocol whose events are encoded here. README.md of
// chatserver has the table of the events.
const Protocol = "chat.v1"

// Reasons of a welcome that does not continue the client's position.
const (
	Fresh = "fresh" // the client named no position, or one that this server cannot read
	Gap   = "gap"   // the position is older than the pod's log: something is missing
	Reset = "reset" // the position belongs to another log
)

// Welcome is the first event on a connection.
type Welcome struct {
	Pod        string `json:"pod"`
	Where      string `json:"where"`            // the pod runs: "laptop" or "cluster"
	Broker     string `json:"broker,omitempty"` // address of the pod's Kafka for programs on this laptop
	Name       string `json:"name,omitempty"`   // of the person, if a proxy gave one
	Topic      string `json:"topic"`
	Position   string `json:"position"` // of the record before what follows; "" if it is not known
	Resumed    bool   `json:"resumed"`
	Reason     string `json:"reason,omitempty"`
	Detail     string `json:"detail,omitempty"` // the reason, for a person
	Standalone bool   `json:"standalone"`
	Partitions int32  `json:"partitions"`
	MaxBytes   int    `json:"max_bytes"`
	Kafka      string `json:"kafka"`
	Version    string `json:"version"` // of the page that the pod serves
}

// Event returns the JSON of an event with the given type and the fields of body, a struct, a map or
// nil.
func Event(kind string, body any) []byte {
	head := []byte(`{"type":` + strconv.Quote(kind))
	var fields bytes.Buffer
	encoder := json.NewEncoder(&fields)
	encoder.SetEscapeHTML(false) // JSON is not HTML: a script puts the text into the page
	if err := encoder.Encode(body); err != nil {
		panic("chat: event " + kind + ": " + err.Error()) // only types that JSON has are passed
	}
	if text := bytes.TrimSpace(fields.Bytes()); len(text) > len("{}") && text[0] == '{' {
		return append(append(head, ','), text[1:]...)
	}
	return append(head, '}')
}

// Ack is the event that a message was read back from the topic. Took is the pod's part of that
// time.
func Ack(id string, offset int64, took time.Duration) []byte {
	return Event("ack", map[string]any{"id": id, "offset": offset, "ms": float64(took.Microseconds()) / 1000})
}

// Reject is the event that a message will not appear.
func Reject(id, reason string) []byte {
	return Event("reject", struct {
		ID     string `json:"id,omitempty"`
		Reason string `json:"reason"`
	}{id, reason})
}

// Status is the event that Kafka is up, or down for a reason that a person in the chat understands.
func Status(reason string) []byte {
	return Event("status", struct {
		Kafka  string `json:"kafka"`
		Reason string `json:"reason,omitempty"`
	}{Kafka(reason), reason})
}

// Kafka is "up" if there is no reason why it is "down".
func Kafka(reason string) string {
	if reason == "" {
		return "up"
	}
	return "down"
}

// MessageEvent is the event that shows m, whose record is at position. Kafka stores milliseconds.
func MessageEvent(m Message, position string) []byte {
	return Event("message", struct {
		Message
		Position string `json:"position"`
		Time     string `json:"time"`
	}{m, position, m.Time.UTC().Format("2006-01-02T15:04:05.000Z")})
}
