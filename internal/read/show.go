package read

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/Shopify/sarama"
)

// timeLayout is that of the chat's messages: RFC 3339 with the milliseconds that Kafka keeps.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// A format appends what is printed of a record.
type format func(dst []byte, record *sarama.ConsumerMessage) []byte

// formats describes what parseFormat understands.
const formats = `%s value, %k key, %h headers, %t topic, %p partition, %o offset, %T time, %%; \n, \r, \t, \0, \\`

func parseFormat(text string) (format, error) {
	var parts []format
	var literal []byte
	flush := func() {
		if l := literal; len(l) > 0 {
			parts = append(parts, func(dst []byte, _ *sarama.ConsumerMessage) []byte { return append(dst, l...) })
			literal = nil
		}
	}
	for rest := text; rest != ""; {
		n := min(2, len(rest))
		switch token := rest[:n]; token {
		case `\n`:
			literal = append(literal, '\n')
		case `\r`:
			literal = append(literal, '\r')
		case `\t`:
			literal = append(literal, '\t')
		case `\0`:
			literal = append(literal, 0)
		case `\\`, `%%`:
			literal = append(literal, token[0])
		case "%s", "%k", "%h", "%t", "%p", "%o", "%T":
			flush()
			parts = append(parts, field(token[1]))
		default:
			if token[0] == '%' || token[0] == '\\' {
				return nil, fmt.Errorf("%q is not valid: %s", token, formats)
			}
			literal, n = append(literal, token[0]), 1
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

func field(name byte) format {
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

// asJSON appends a record as one JSON object on one line. Bytes that are not UTF-8 are base64, under a
// name that says so; characters that a terminal may obey are escaped.
func asJSON(dst []byte, r *sarama.ConsumerMessage) []byte {
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
	line := buffer.Bytes()
	if text := line[len(dst):]; bytes.IndexFunc(text[:len(text)-1], hostile) >= 0 {
		line = dst
		for _, r := range string(text[:len(text)-1]) {
			if hostile(r) {
				line = fmt.Appendf(line, `\u%04x`, r)
			} else {
				line = utf8.AppendRune(line, r)
			}
		}
		line = append(line, '\n')
	}
	return line
}

// hostile says whether a terminal may obey a character, or show the text around it in another order.
func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// forTerminal returns a record whose text a terminal shows and does not obey.
func forTerminal(record *sarama.ConsumerMessage) *sarama.ConsumerMessage {
	shown := *record
	shown.Key, shown.Value, shown.Headers = harmless(record.Key), harmless(record.Value), nil
	for _, h := range record.Headers {
		shown.Headers = append(shown.Headers, &sarama.RecordHeader{Key: harmless(h.Key), Value: harmless(h.Value)})
	}
	return &shown
}

// harmless escapes as Go does what is hostile or not UTF-8. A tab stays.
func harmless(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if hostile(r) && r != '\t' || r == utf8.RuneError && n == 1 {
			quoted := strconv.QuoteToASCII(string(text[:n]))
			out = append(out, quoted[1:len(quoted)-1]...)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
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
