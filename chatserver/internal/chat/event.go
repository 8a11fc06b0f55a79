package chat

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// Protocol is the name of the websocket subprotocol whose events are encoded here. The
// README of chatserver has its table.
const Protocol = "chat.v1"

// Reasons of a welcome that does not continue the client's position.
const (
	Fresh = "fresh" // the client named no position, or none that this server can read
	Gap   = "gap"   // the position is older than the pod's log: something is missing
	Reset = "reset" // the position is of another log
)

// Welcome is the first event on a connection.
type Welcome struct {
	Pod        string `json:"pod"`
	Where      string `json:"where"`            // it runs: "laptop" or "cluster"
	Broker     string `json:"broker,omitempty"` // where others on this laptop find the pod's Kafka
	Name       string `json:"name,omitempty"`   // of the person, if a proxy has said it
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

// Kafka's states in a welcome and in a status event.
const (
	Up   = "up"
	Down = "down"
)

// Event returns the JSON of an event with the given type and the fields of body, a struct, a map or nil.
func Event(kind string, body any) []byte {
	head := []byte(`{"type":` + strconv.Quote(kind))
	var fields bytes.Buffer
	encoder := json.NewEncoder(&fields)
	encoder.SetEscapeHTML(false) // a text is no part of a page before a script puts it there
	if err := encoder.Encode(body); err != nil {
		panic("chat: event " + kind + ": " + err.Error()) // only types that JSON has are passed
	}
	if text := bytes.TrimSpace(fields.Bytes()); len(text) > len("{}") && text[0] == '{' {
		return append(append(head, ','), text[1:]...)
	}
	return append(head, '}')
}

// Ack is the event that a message was read back from the topic; took is the pod's part.
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

// Status is the event that Kafka is Up, or Down for a reason that a person in the chat understands.
func Status(reason string) []byte {
	return Event("status", struct {
		Kafka  string `json:"kafka"`
		Reason string `json:"reason,omitempty"`
	}{Kafka(reason), reason})
}

// Kafka is Up if there is no reason why it is Down.
func Kafka(reason string) string {
	if reason == "" {
		return Up
	}
	return Down
}

// Reconnect is the event that the pod stops, and within what time the client is to connect again.
func Reconnect(within time.Duration) []byte {
	return Event("reconnect", map[string]any{"within_ms": within.Milliseconds()})
}

// Live is the event that what there was when the client came has been sent.
func Live(position string) []byte {
	return Event("live", map[string]any{"position": position})
}

// timeFormat is RFC 3339 in UTC with milliseconds, which is what Kafka stores.
const timeFormat = "2006-01-02T15:04:05.000Z"

// MessageEvent is the event that shows m, whose record is at position.
func MessageEvent(m Message, position string) []byte {
	return Event("message", struct {
		Offset      int64  `json:"offset"`
		Position    string `json:"position"`
		ID          string `json:"id,omitempty"`
		Name        string `json:"name,omitempty"`
		Text        string `json:"text"`
		Pod         string `json:"pod,omitempty"`
		Time        string `json:"time"`
		Placeholder bool   `json:"placeholder,omitempty"`
	}{m.Offset, position, m.ID, m.Name, m.Text, m.Pod, m.Time.UTC().Format(timeFormat), m.Placeholder})
}
