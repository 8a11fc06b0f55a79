package chat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
)

const someID = "f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11"

func ExampleDecode() {
	m := chat.Decode(&sarama.ConsumerMessage{
		Offset:    7,
		Timestamp: time.UnixMilli(1767323045678),
		Value:     []byte("hello"),
		Headers: []*sarama.RecordHeader{
			{Key: []byte("id"), Value: []byte(someID)},
			{Key: []byte("name"), Value: []byte("Ada")},
		},
	})
	fmt.Printf("%s\n", chat.MessageEvent(m, "7.00c0ffee"))
	// Output: {"type":"message","offset":7,"id":"f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11","name":"Ada","text":"hello","position":"7.00c0ffee","time":"2026-01-02T03:04:05.678Z"}
}

// consumed is m as a consumer gets it: a record with its value and headers.
func consumed(m chat.Message) *sarama.ConsumerMessage {
	r := &sarama.ConsumerMessage{Offset: m.Offset, Timestamp: m.Time, Value: []byte(m.Text)}
	for _, h := range chat.Headers(m) {
		r.Headers = append(r.Headers, &h)
	}
	return r
}

func TestForeignRecords(t *testing.T) {
	decode := func(value string, pairs ...string) chat.Message {
		r := &sarama.ConsumerMessage{Value: []byte(value)}
		for i := 0; i < len(pairs); i += 2 {
			r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])})
		}
		return chat.Decode(r)
	}
	long := strings.Repeat("x", chat.MaxForeign)
	for _, c := range []struct{ got, want chat.Message }{
		{decode("a line"), chat.Message{Text: "a line"}},
		{decode(""), chat.Message{}},
		{decode("x", "id", "1", "name", "Ada", "pod", "p"), chat.Message{Name: "Ada", Pod: "p", Text: "x"}},
		{decode("\x00\xff\xfe", "id", someID), chat.Message{ID: someID, Text: "(3 bytes that are not text)", Placeholder: true}},
		{decode(long), chat.Message{Text: long}},
		{decode(long + "x"), chat.Message{Text: "(1048577 bytes of text, too long to show)", Placeholder: true}},
	} {
		if c.got != c.want {
			t.Errorf("got %.200v, want %.200v", c.got, c.want)
		}
	}
	for _, header := range [][2]string{
		{"trace", "\xff\x00"}, {"", ""}, {"ID", someID}, // another program's
		{"id", "1"}, {"id", strings.Repeat("1", 65)}, {"id", "0123456789 abcdef"}, {"id", "0123456789äabcdef"}, {"id", strings.Repeat("\xff", 16)},
		{"name", "\xff\xfe"}, {"name", "a\nb"}, {"name", strings.Repeat("n", 65)}, {"pod", strings.Repeat("p", 254)},
	} {
		if got, want := decode("x", header[:]...), (chat.Message{Text: "x"}); got != want {
			t.Errorf("header %q: got %+v", header, got)
		}
	}
}

// FuzzDecode: any record becomes a message whose event is JSON in UTF-8, which says the same.
func FuzzDecode(f *testing.F) {
	f.Add(int64(0), int64(0), []byte("id"), []byte(someID), []byte("name"), []byte("Ada"), []byte("hello"))
	f.Add(int64(1)<<62, int64(-62135596800001), []byte("pod"), []byte("a\x00\"\\\x7f"), []byte("name"), []byte("\u2028</script>"), []byte("\xff"))
	f.Add(int64(3), int64(1)<<50, []byte("name"), []byte("\xc3"), []byte(""), []byte(""), []byte("\"\\\n\t\r\b\x1f\u2029\U0010FFFF"))
	f.Fuzz(func(t *testing.T, offset, millis int64, key1, value1, key2, value2, value []byte) {
		m := chat.Decode(&sarama.ConsumerMessage{Offset: offset, Timestamp: time.UnixMilli(millis), Value: value, Headers: []*sarama.RecordHeader{
			{Key: key1, Value: value1}, {Key: key2, Value: value2},
		}})
		got := chat.MessageEvent(m, "a position")
		if !utf8.Valid(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		var e struct {
			chat.Message
			Type, Position, Time string
		}
		if err := json.Unmarshal(got, &e); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		e.Message.Time = m.Time
		if e.Type != "message" || e.Position != "a position" || e.Message != m || !bytes.Contains(got, []byte(`"text":`)) || utf8.Valid(value) != !m.Placeholder {
			t.Errorf("%+v became %s", m, got)
		}
		// A time that is no RFC 3339 time is JSON all the same.
		at, err := time.Parse(time.RFC3339, e.Time)
		if year := m.Time.UTC().Year(); year >= 0 && year <= 9999 && (err != nil || !at.Equal(m.Time)) {
			t.Errorf("%v became %s", m.Time, e.Time)
		}
		if m.ID != "" && chat.CheckID(m.ID) != nil || chat.CheckName(m.Name) != nil {
			t.Errorf("took id %q, name %q", m.ID, m.Name)
		}
	})
}

func TestSumTellsRecordsApart(t *testing.T) {
	at := func(millis int64, value, id string) uint32 {
		return chat.Sum(&sarama.ConsumerMessage{Offset: 5, Timestamp: time.UnixMilli(millis), Value: []byte(value)}, id)
	}
	sum := at(1000, "hello", someID)
	for name, other := range map[string]uint32{"time": at(1001, "hello", someID), "value": at(1000, "hallo", someID), "id": at(1000, "hello", someID[1:])} {
		if other == sum {
			t.Errorf("the %s does not count", name)
		}
	}
	// Kafka stores milliseconds: what a pod has in its memory must not be finer.
	if finer := (sarama.ConsumerMessage{Timestamp: time.UnixMilli(1000).Add(999 * time.Microsecond), Value: []byte("hello")}); chat.Sum(&finer, someID) != sum {
		t.Error("pods that read the same record get different positions")
	}
}
