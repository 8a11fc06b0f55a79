package chat

import (
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
	Where      string `json:"where"`          // it runs: "laptop" or "cluster"
	Name       string `json:"name,omitempty"` // of the person, if a proxy has said it
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

// Event returns the JSON of an event with the given type and the fields of body, a struct or
// nil.
func Event(kind string, body any) []byte {
	head := `{"type":` + strconv.Quote(kind)
	if body == nil {
		return []byte(head + "}")
	}
	fields, err := json.Marshal(body)
	if err != nil {
		panic("record: event " + kind + ": " + err.Error()) // only types that JSON has are passed
	}
	if string(fields) == "{}" {
		return []byte(head + "}")
	}
	return append([]byte(head+","), fields[1:]...)
}

// Ack is the event that a message was read back from the topic; took is the pod's part.
func Ack(id string, offset int64, took time.Duration) []byte {
	return Event("ack", struct {
		ID     string  `json:"id"`
		Offset int64   `json:"offset"`
		Millis float64 `json:"ms"`
	}{id, offset, float64(took.Microseconds()) / 1000})
}

// Reject is the event that a message will not appear.
func Reject(id, reason string) []byte {
	return Event("reject", struct {
		ID     string `json:"id,omitempty"`
		Reason string `json:"reason"`
	}{id, reason})
}

// Status is the event that Kafka is Up or Down.
func Status(kafka string) []byte {
	return Event("status", struct {
		Kafka string `json:"kafka"`
	}{kafka})
}

// Live is the event that what there was when the client came has been sent.
func Live(position string) []byte {
	return Event("live", struct {
		Position string `json:"position"`
	}{position})
}

// AppendMessage appends the JSON of the event that shows m. It is called once a record, at full
// speed of the topic, so it is written by hand.
func AppendMessage(b []byte, m Message, p Position) []byte {
	b = append(b, `{"type":"message","offset":`...)
	b = strconv.AppendInt(b, m.Offset, 10)
	b = append(b, `,"position":"`...)
	b = p.appendTo(b)
	b = append(b, '"')
	b = appendField(b, `,"id":`, m.ID)
	b = appendField(b, `,"name":`, m.Name)
	b = append(b, `,"text":`...)
	b = appendString(b, m.Text)
	b = appendField(b, `,"pod":`, m.Pod)
	b = append(b, `,"time":"`...)
	b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	if m.Placeholder {
		b = append(b, `,"placeholder":true`...)
	}
	return append(b, '}')
}

func appendField(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, key...), value)
}

// appendString appends s, which is valid UTF-8, as a JSON string (RFC 8259 section 7).
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
