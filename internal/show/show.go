// Package show turns a record into the bytes that kafkaread prints for it.
package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/Shopify/sarama"
)

// timeLayout is that of the chat's messages: RFC 3339 with the milliseconds that Kafka keeps.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// A Func appends what is shown of a record.
type Func func(dst []byte, record *sarama.ConsumerMessage) []byte

// Formats describes what ParseFormat understands.
const Formats = `%s value, %k key, %h headers, %t topic, %p partition, %o offset, %T time, %%; \n, \r, \t, \0, \\`

// ParseFormat returns the Func for a format.
func ParseFormat(format string) (Func, error) {
	var parts []Func
	var text []byte
	flush := func() {
		if literal := text; len(literal) > 0 {
			parts = append(parts, func(dst []byte, _ *sarama.ConsumerMessage) []byte { return append(dst, literal...) })
			text = nil
		}
	}
	for rest := format; rest != ""; {
		n := min(2, len(rest))
		switch token := rest[:n]; token {
		case `\n`:
			text = append(text, '\n')
		case `\r`:
			text = append(text, '\r')
		case `\t`:
			text = append(text, '\t')
		case `\0`:
			text = append(text, 0)
		case `\\`, `%%`:
			text = append(text, token[0])
		case "%s", "%k", "%h", "%t", "%p", "%o", "%T":
			flush()
			parts = append(parts, field(token[1]))
		default:
			if token[0] == '%' || token[0] == '\\' {
				return nil, fmt.Errorf("%q is not valid: %s", token, Formats)
			}
			text, n = append(text, token[0]), 1
		}
		rest = rest[n:]
	}
	flush()
	return func(dst []byte, record *sarama.ConsumerMessage) []byte {
		for _, part := range parts {
			dst = part(dst, record)
		}
		return dst
	}, nil
}

func field(name byte) Func {
	return func(dst []byte, r *sarama.ConsumerMessage) []byte {
		switch name {
		case 's':
			return append(dst, r.Value...)
		case 'k':
			return append(dst, r.Key...)
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(append(append(dst, h.Key...), '='), h.Value...)
			}
			return dst
		case 't':
			return append(dst, r.Topic...)
		case 'p':
			return strconv.AppendInt(dst, int64(r.Partition), 10)
		case 'o':
			return strconv.AppendInt(dst, r.Offset, 10)
		}
		return r.Timestamp.UTC().AppendFormat(dst, timeLayout) // T
	}
}

// JSON shows a record as one JSON object on one line. Bytes that are not UTF-8 are base64, under a name that says so.
func JSON(dst []byte, r *sarama.ConsumerMessage) []byte {
	object := jsonRecord{
		Topic:     r.Topic,
		Partition: r.Partition,
		Offset:    r.Offset,
		Time:      r.Timestamp.UTC().Format(timeLayout),
		Headers:   []jsonHeader{},
	}
	object.Key, object.KeyBase64 = text(r.Key)
	object.Value, object.ValueBase64 = text(r.Value)
	for _, h := range r.Headers {
		header := jsonHeader{Name: string(h.Key)}
		header.Value, header.ValueBase64 = text(h.Value)
		object.Headers = append(object.Headers, header)
	}
	buffer := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil { // which ends the line
		panic(err) // impossible: strings and numbers, written to memory
	}
	return buffer.Bytes()
}

type jsonRecord struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Time        string       `json:"time"`
	Key         *string      `json:"key"` // null: there is none
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers"`
}

type jsonHeader struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// text returns b as a string, or else as bytes, which JSON shows as base64.
func text(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}
