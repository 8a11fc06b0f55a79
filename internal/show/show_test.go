package show_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/show"
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

func ExampleParseFormat() {
	format, err := show.ParseFormat(`%o %k=%s\n`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", format(nil, &sarama.ConsumerMessage{Offset: 42, Key: []byte("ann"), Value: []byte("hello")}))
	// Output: 42 ann=hello
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
		f, err := show.ParseFormat(format)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := string(f([]byte("<"), record())); got != "<"+want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	for _, format := range []string{`%`, `%x`, `\`, `a\x`, `%%%`} {
		if _, err := show.ParseFormat(format); err == nil || !strings.Contains(err.Error(), "is not valid: %s value") {
			t.Errorf("%q: %v", format, err)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	text := func(r *sarama.ConsumerMessage) string { return string(show.JSON(nil, r)) }
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

// A sink tells what is written to it.
type sink chan string

func (s sink) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

// TestPrint hands over records one by one: each must be out before the next one comes.
func TestPrint(t *testing.T) {
	t.Parallel()
	f, err := show.ParseFormat(`%o,`)
	if err != nil {
		t.Fatal(err)
	}
	records, out, done := make(chan []*sarama.ConsumerMessage), make(sink), make(chan error)
	go func() { done <- show.Print(out, records, f, 4) }()
	for _, want := range []string{"42,", "42,42,"} {
		records <- []*sarama.ConsumerMessage{record(), record()}[:len(want)/3]
		if got := <-out; got != want {
			t.Errorf("it printed %q, want %q", got, want)
		}
	}
	records <- []*sarama.ConsumerMessage{record(), record()} // one more than wanted
	if got := <-out; got != "42," {
		t.Errorf("the fourth of four: %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	closed := make(chan []*sarama.ConsumerMessage)
	close(closed)
	if err := show.Print(io.Discard, closed, f, 0); err != nil {
		t.Error(err)
	}
	broken, w := io.Pipe()
	broken.Close()
	one := make(chan []*sarama.ConsumerMessage, 1)
	one <- []*sarama.ConsumerMessage{record()}
	if err := show.Print(w, one, f, 0); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a broken pipe: %v", err)
	}
}
