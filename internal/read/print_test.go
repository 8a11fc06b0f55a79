package read

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/internal/wire"
)

func record() *sarama.ConsumerMessage {
	return &sarama.ConsumerMessage{
		Topic: "chat", Partition: 3, Offset: 42, Key: []byte("k"), Value: []byte("v\x00 %s"),
		Timestamp: time.Date(2026, 1, 2, 15, 4, 5, 678_000_000, time.FixedZone("", 3600)),
		Headers:   []*sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2=3")}},
	}
}

// printed is what is printed of a record.
func printed(t *testing.T, r *sarama.ConsumerMessage, terminal bool, args ...string) string {
	t.Helper()
	opt, err := Parse(args, io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := NewPrinter(&out, opt, t.Logf, func() {})
	p.terminal = terminal
	p.Print(r)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		``:                  "",
		`%s\n`:              "v\x00 %s\n",
		`%t/%p/%o`:          "chat/3/42",
		`%k: %s [%h]`:       "k: v\x00 %s [a=1,b=2=3]",
		`%T`:                "2026-01-02T14:04:05.678Z",
		`100%%\t\r\0\\n%%s`: "100%\t\r\x00\\n%s",
		`ü%sü`:              "üv\x00 %sü",
	} {
		if got := printed(t, record(), false, "-format", format); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	for format, want := range map[string]string{`%`: verbs, `%x`: verbs, `%%%`: verbs, `\`: "a backslash begins one of", `a\x`: "a backslash begins one of"} {
		if _, err := Parse([]string{"-format", format}, io.Discard, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", format, err)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	nothing, empty := record(), record()
	nothing.Key, nothing.Value, nothing.Headers = nil, []byte{0xff, 0}, nil
	empty.Key, empty.Value, empty.Headers = []byte{}, nil, []*sarama.RecordHeader{{Key: []byte("<b>"), Value: []byte{0xff}}}
	const start = `{"topic":"chat","partition":3,"offset":42,"time":"2026-01-02T14:04:05.678Z",`
	for want, r := range map[string]*sarama.ConsumerMessage{
		`"key":"k","value":"v\u0000 %s","headers":[{"name":"a","value":"1"},{"name":"b","value":"2=3"}]}`: record(),
		`"key":null,"value":null,"value_base64":"/wA=","headers":[]}`:                                     nothing,
		`"key":"","value":null,"headers":[{"name":"<b>","value":null,"value_base64":"/w=="}]}`:            empty,
	} {
		if got := printed(t, r, false, "-json"); got != start+want+"\n" {
			t.Errorf("got  %swant %s", got, start+want)
		}
	}
}

// What a terminal may obey is escaped in JSON, and on a terminal everywhere; what is text stays.
func TestHostile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\x1b]0;title\a":           `\x1b]0;title\a`,
		"a\nb\r":                   `a\nb\r`,
		"\u009b2J \x7f":            `\u009b2J \x7f`,
		"\x9b2J":                   `\x9b2J`,
		"x\u202ey\u2066z\u2028":    `x\u202ey\u2066z\u2028`,
		"kůň 👩\u200d👧 \t מה \\x7f": "kůň 👩\u200d👧 \t מה \\x7f",
	} {
		r := &sarama.ConsumerMessage{Key: []byte(text), Value: []byte(text), Headers: []*sarama.RecordHeader{{Key: []byte(text), Value: []byte(text)}}}
		if got := printed(t, r, true, "-format", "%k|%s|%h"); got != want+"|"+want+"|"+want+"="+want {
			t.Errorf("%q: on a terminal %q, want %q", text, got, want)
		}
		if got := printed(t, r, false, "-format", "%k|%s|%h"); got != text+"|"+text+"|"+text+"="+text {
			t.Errorf("%q: elsewhere %q", text, got)
		}
		line := printed(t, r, false, "-json")
		var back struct{ Value string }
		if err := json.Unmarshal([]byte(line), &back); err != nil || utf8.ValidString(text) && back.Value != text {
			t.Errorf("%q: %s, %v", text, line, err)
		}
		if strings.ContainsAny(line, "\x1b\a\t\r\x7f\u009b\u202e\u2066\u2028") || strings.Count(line, "\n") != 1 {
			t.Errorf("%q: %q has a hostile character", text, line)
		}
	}
}

type writer func(text string) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(string(p)) }

// Each record is out soon, as many as are wanted, and then the printer stops the rest.
func TestPrint(t *testing.T) {
	t.Parallel()
	opt, err := Parse([]string{"-format", "%o,", "-n", "3"}, io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out := make(chan string)
	p := NewPrinter(writer(func(text string) error { out <- text; return nil }), opt, t.Logf, stop)
	for i := range 3 {
		p.Print(record())
		if i == 2 {
			p.Print(record()) // one more than wanted
		}
		if got := <-out; got != "42," || (ctx.Err() != nil) != (i == 2) {
			t.Errorf("record %d: %q, %v", i, got, ctx.Err())
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// A pipe that nobody reads stops the printer, and is no error; another fault is one. So is a record
// that could not be read: what stands in its place is said, and not printed.
func TestPrintFaults(t *testing.T) {
	t.Parallel()
	for fault, want := range map[error]string{syscall.EPIPE: "<nil>", syscall.ENOSPC: "writing to standard output: no space left on device"} {
		ctx, stop := context.WithCancel(t.Context())
		p := NewPrinter(writer(func(string) error { return fault }), Options{format: "x"}, t.Logf, stop)
		p.Print(record())
		<-ctx.Done()
		if err := p.Close(); fmt.Sprint(err) != want {
			t.Errorf("%v: %v", fault, err)
		}
	}
	var out bytes.Buffer
	said := ""
	p := NewPrinter(&out, Options{format: "x"}, func(format string, args ...any) { said = fmt.Sprintf(format, args...) }, func() {})
	skipped := record()
	skipped.Headers = []*sarama.RecordHeader{{Key: []byte(wire.SkippedHeader), Value: []byte("offset 42 was left out\x1b")}}
	p.Print(skipped)
	if err := p.Close(); err == nil || out.Len() > 0 || said != `partition 3: offset 42 was left out\x1b` {
		t.Errorf("a record that cannot be read: %v, %q is printed, %q is said", err, out.String(), said)
	}
}
