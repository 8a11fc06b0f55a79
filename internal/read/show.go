package read

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
)

const (
	// timeLayout is that of the chat's messages: RFC 3339 with the milliseconds that Kafka keeps.
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
	verbs      = "%s value, %k key, %h headers, %t topic, %p partition, %o offset, %T time, %%"
)

// parseFormat checks text, the value of -format, and returns the format for appendFormat.
func parseFormat(text string) (string, error) {
	if strings.Contains(regexp.MustCompile("%[skhtpoT%]").ReplaceAllString(text, ""), "%") {
		return "", fmt.Errorf("valid are %s", verbs)
	}
	return cli.Unescape(text)
}

// appendFormat appends a record in a format that parseFormat has returned. For a terminal the
// record's bytes are made harmless.
func appendFormat(dst []byte, format string, r *sarama.ConsumerMessage, terminal bool) []byte {
	add := func(text []byte) {
		if terminal {
			text = harmless(text)
		}
		dst = append(dst, text...)
	}
	for {
		literal, rest, more := strings.Cut(format, "%")
		dst = append(dst, literal...)
		if !more {
			return dst
		}
		switch rest[0] {
		case 's':
			add(r.Value)
		case 'k':
			add(r.Key)
		case 'h':
			for i, h := range r.Headers {
				if i > 0 {
					dst = append(dst, ',')
				}
				add(h.Key)
				dst = append(dst, '=')
				add(h.Value)
			}
		case 't':
			dst = append(dst, r.Topic...)
		case 'p':
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case 'o':
			dst = strconv.AppendInt(dst, r.Offset, 10)
		case 'T':
			dst = r.Timestamp.UTC().AppendFormat(dst, timeLayout)
		case '%':
			dst = append(dst, '%')
		}
		format = rest[1:]
	}
}

// appendJSON appends a record as one JSON object on one line. Bytes that are not UTF-8 are base64,
// under a name that says so; characters that a terminal may obey are escaped.
func appendJSON(dst []byte, r *sarama.ConsumerMessage) []byte {
	type text struct {
		Value  *string `json:"value"` // null: there is none
		Base64 []byte  `json:"value_base64,omitempty"`
	}
	type header struct {
		Name string `json:"name"`
		text
	}
	value := func(b []byte) (t text) {
		if s := string(b); b != nil && utf8.ValidString(s) {
			return text{Value: &s}
		}
		return text{Base64: b}
	}
	headers := []header{}
	for _, h := range r.Headers {
		headers = append(headers, header{string(h.Key), value(h.Value)})
	}
	key := value(r.Key)
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(struct {
		Topic     string  `json:"topic"`
		Partition int32   `json:"partition"`
		Offset    int64   `json:"offset"`
		Time      string  `json:"time"`
		Key       *string `json:"key"`
		KeyBase64 []byte  `json:"key_base64,omitempty"`
		text
		Headers []header `json:"headers"`
	}{r.Topic, r.Partition, r.Offset, r.Timestamp.UTC().Format(timeLayout), key.Value, key.Base64, value(r.Value), headers}); err != nil {
		panic(err) // impossible: strings and numbers, written to memory
	}
	// The encoder has escaped the characters below U+0020. U+007F is the only other character whose
	// escape in Go is invalid in JSON.
	valid := bytes.ReplaceAll(bytes.TrimSuffix(line.Bytes(), []byte("\n")), []byte("\x7f"), []byte(`\u007f`))
	return append(append(dst, harmless(valid)...), '\n')
}

// harmless escapes, as Go does, bytes that are not UTF-8, and characters that a terminal may obey
// or that change the direction of text. A tab stays.
func harmless(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if unicode.IsControl(r) && r != '\t' || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r == utf8.RuneError && n == 1 {
			quoted := strconv.QuoteToASCII(string(text[:n]))
			out = append(out, quoted[1:len(quoted)-1]...)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}
