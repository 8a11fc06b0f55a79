package read

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
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
		Headers: []*sarama.RecordHeader{
			{Key: []byte("a"), Value: []byte("1")},
			{Key: []byte("b"), Value: []byte("2=3")},
		},
	}
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
		f, err := parseFormat(format)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := string(f([]byte("<"), record())); got != "<"+want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	for _, format := range []string{`%`, `%x`, `\`, `a\x`, `%%%`} {
		if _, err := parseFormat(format); err == nil || !strings.Contains(err.Error(), "is not valid: %s value") {
			t.Errorf("%q: %v", format, err)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	text := func(r *sarama.ConsumerMessage) string { return string(asJSON(nil, r)) }
	want := `{"topic":"chat","partition":3,"offset":42,"time":"2026-01-02T14:04:05.678Z","key":"k","value":"v\u0000 %s","headers":[{"name":"a","value":"1"},{"name":"b","value":"2=3"}]}` + "\n"
	if got := text(record()); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	r := record()
	r.Key, r.Value, r.Headers = nil, []byte{0xff, 0}, nil
	var got map[string]any
	if err := json.Unmarshal([]byte(text(r)), &got); err != nil {
		t.Fatal(err)
	}
	if got["key"] != nil || got["value"] != nil || got["value_base64"] != "/wA=" || !reflect.DeepEqual(got["headers"], []any{}) {
		t.Errorf("bytes and nothing: %v", got)
	}
	r.Value = []byte{}
	if !strings.Contains(text(r), `"key":null,"value":""`) {
		t.Errorf("an empty value: %s", text(r))
	}
}

// What a terminal may obey is escaped in JSON, and on a terminal everywhere; what is text stays.
func TestHostile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\x1b]0;title\a":     `\x1b]0;title\a`,
		"a\nb\r":             `a\nb\r`,
		"\u009b2J \x7f":      `\u009b2J \x7f`,
		"\x9b2J":             `\x9b2J`,
		"x\u202ey\u2066z":    `x\u202ey\u2066z`,
		"kůň 👩\u200d👧 \t מה": "kůň 👩\u200d👧 \t מה",
	} {
		r := &sarama.ConsumerMessage{Key: []byte(text), Value: []byte(text), Headers: []*sarama.RecordHeader{{Key: []byte(text), Value: []byte(text)}}}
		shown := forTerminal(r)
		for _, got := range [][]byte{shown.Key, shown.Value, shown.Headers[0].Key, shown.Headers[0].Value} {
			if string(got) != want {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		}
		line := string(asJSON([]byte("before"), r))
		var back struct{ Value, ValueBase64 string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "before")), &back); err != nil || utf8.ValidString(text) && back.Value != text {
			t.Errorf("%q: %s, %v", text, line, err)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), hostile); i >= 0 {
			t.Errorf("%q: %q has a hostile character", text, line)
		}
	}
}

// A sink tells what is written to it.
type sink chan string

func (s sink) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

// Each record is out soon, as many as are wanted, and then the printer stops the rest.
func TestPrint(t *testing.T) {
	t.Parallel()
	opt, err := Parse([]string{"-format", "%o,", "-n", "3"}, io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out := make(sink)
	p := NewPrinter(out, opt, t.Logf, stop)
	for range 2 {
		p.Print(record())
		if got := <-out; got != "42," {
			t.Errorf("it printed %q", got)
		}
	}
	p.Print(record())
	p.Print(record()) // one more than wanted
	if got := <-out; got != "42," || ctx.Err() == nil {
		t.Errorf("the third of three: %q, %v", got, ctx.Err())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// A pipe that nobody reads stops the printer, and is no error; another fault is one. So is a record
// that could not be read: what stands in its place is said, and not printed.
func TestPrintFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault error
		want  string
	}{{syscall.EPIPE, "<nil>"}, {syscall.ENOSPC, "writing to standard output: no space left on device"}} {
		ctx, stop := context.WithCancel(t.Context())
		p := NewPrinter(writer(func([]byte) (int, error) { return 0, c.fault }), Options{}, t.Logf, stop)
		p.Print(record())
		<-ctx.Done()
		if err := p.Close(); fmt.Sprint(err) != c.want {
			t.Errorf("%v: %v", c.fault, err)
		}
	}
	var out bytes.Buffer
	said := ""
	p := NewPrinter(&out, Options{}, func(format string, args ...any) { said = fmt.Sprintf(format, args...) }, func() {})
	skipped := record()
	skipped.Headers = []*sarama.RecordHeader{{Key: []byte(wire.SkippedHeader), Value: []byte("offset 42 was left out\x1b")}}
	p.Print(skipped)
	if err := p.Close(); err == nil || out.Len() > 0 || said != `partition 3: offset 42 was left out\x1b` {
		t.Errorf("a record that cannot be read: %v, %q is printed, %q is said", err, out.String(), said)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
