package read

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/internal/wire"
)

// printed is what is printed of a record.
func printed(t *testing.T, r *sarama.ConsumerMessage, terminal bool, args ...string) string {
	t.Helper()
	opt, invalid := Parse(args, io.Discard, "")
	var out bytes.Buffer
	p := NewPrinter(&out, opt, t.Logf, func() {})
	p.terminal = terminal
	p.Print(r)
	if err := errors.Join(invalid, p.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What a terminal may obey is escaped in JSON, and on a terminal everywhere; what is text stays.
func TestHostile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\x1b]0;title\a\n\u009b2J \x7f x\u202ey\u2066z\u2028": `\x1b]0;title\a\n\u009b2J \x7f x\u202ey\u2066z\u2028`,
		"\x9b2J":                   `\x9b2J`,
		"kůň 👩\u200d👧 \t מה \\x7f": "kůň 👩\u200d👧 \t מה \\x7f",
	} {
		r := &sarama.ConsumerMessage{Key: []byte(text), Value: []byte(text), Headers: []*sarama.RecordHeader{{Key: []byte(text), Value: []byte(text)}}}
		for terminal, want := range map[bool]string{true: want, false: text} {
			if got := printed(t, r, terminal, "-format", "%k|%s|%h"); got != want+"|"+want+"|"+want+"="+want {
				t.Errorf("%q, terminal %v: %q", text, terminal, got)
			}
		}
		line := printed(t, r, false, "-json")
		var back struct{ Value string }
		err := json.Unmarshal([]byte(line), &back)
		if err != nil || utf8.ValidString(text) && back.Value != text ||
			strings.ContainsAny(line, "\x1b\a\t\r\x7f\u009b\u202e\u2066\u2028") || strings.Count(line, "\n") != 1 {
			t.Errorf("%q: %q, %v", text, line, err)
		}
	}
}

// A record that could not be read: what stands in its place is said, and not printed.
func TestSkipped(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	said := ""
	p := NewPrinter(&out, Options{format: "x"}, func(format string, args ...any) { said = fmt.Sprintf(format, args...) }, func() {})
	p.Print(&sarama.ConsumerMessage{Partition: 3, Headers: []*sarama.RecordHeader{{Key: []byte(wire.SkippedHeader), Value: []byte("offset 42 was left out\x1b")}}})
	if err := p.Close(); err == nil || out.Len() > 0 || said != `partition 3: offset 42 was left out\x1b` {
		t.Errorf("a record that cannot be read: %v, %q is printed, %q is said", err, out.String(), said)
	}
}
