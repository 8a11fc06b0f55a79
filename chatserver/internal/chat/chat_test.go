package chat_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
)

const someID = "f5fb7bd5-5e0f-4d5e-8a0b-6c4f0f9c3d11"

// What other programs write: a header that is not valid counts as absent, and what is not text becomes a placeholder.
func TestForeignRecords(t *testing.T) {
	long := strings.Repeat("x", chat.MaxForeign)
	for _, c := range []struct {
		headers [][2]string
		value   string
		want    chat.Message
	}{
		{[][2]string{{"id", someID}, {"name", "Ada"}, {"pod", "p"}}, "x", chat.Message{ID: someID, Name: "Ada", Pod: "p", Text: "x"}},
		{[][2]string{{"id", someID}}, "\x00\xff\xfe", chat.Message{ID: someID, Text: "(3 bytes that are not text)", Placeholder: true}},
		{nil, long, chat.Message{Text: long}},
		{nil, long + "x", chat.Message{Text: "(1048577 bytes of text, too long to show)", Placeholder: true}},
		{[][2]string{{"trace", "\xff\x00"}, {"", ""}, {"ID", someID}}, "x", chat.Message{Text: "x"}},
		{[][2]string{
			{"id", "1"}, {"id", strings.Repeat("1", 65)}, {"id", "0123456789 abcdef"}, {"id", "0123456789äabcdef"},
			{"name", "\xff\xfe"}, {"name", "a\nb"}, {"name", strings.Repeat("n", 65)}, {"pod", "\xff"}, {"pod", strings.Repeat("p", 254)},
		}, "x", chat.Message{Text: "x"}},
	} {
		r := &sarama.ConsumerMessage{Value: []byte(c.value)}
		for _, h := range c.headers {
			r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
		}
		if got := chat.Decode(r); got != c.want {
			t.Errorf("headers %q: got %.200v, want %.200v", c.headers, got, c.want)
		}
	}
}

// FuzzDecode: any record becomes a message whose event is JSON that says the same.
func FuzzDecode(f *testing.F) {
	f.Add(int64(0), int64(0), []byte("id"), []byte(someID), []byte("name"), []byte("Ada"), []byte("hello"))
	f.Add(int64(1)<<62, int64(-62135596800001), []byte("pod"), []byte("a\x00\"\\\x7f"), []byte("name"), []byte("\u2028</script>"), []byte("\xff"))
	f.Add(int64(3), int64(1)<<50, []byte("name"), []byte("\xc3"), []byte(""), []byte(""), []byte("\"\\\n\t\r\b\x1f\u2029\U0010FFFF"))
	f.Fuzz(func(t *testing.T, offset, millis int64, key1, value1, key2, value2, value []byte) {
		m := chat.Decode(&sarama.ConsumerMessage{Offset: offset, Timestamp: time.UnixMilli(millis), Value: value, Headers: []*sarama.RecordHeader{
			{Key: key1, Value: value1}, {Key: key2, Value: value2},
		}})
		got := chat.MessageEvent(m, "a position")
		var e struct {
			chat.Message
			Type, Position, Time string
		}
		err := json.Unmarshal(got, &e)
		e.Message.Time = m.Time
		hasText := bytes.Contains(got, []byte(`"text":`))
		if err != nil || e.Type != "message" || e.Position != "a position" || e.Message != m || !hasText || utf8.Valid(value) == m.Placeholder {
			t.Errorf("%+v became %s, %v", m, got, err)
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

// Kafka stores milliseconds, so all pods that read a record get the same sum.
func TestSumTellsRecordsApart(t *testing.T) {
	at := func(micros int64, value, id string) uint32 {
		return chat.Sum(&sarama.ConsumerMessage{Timestamp: time.UnixMicro(micros), Value: []byte(value)}, id)
	}
	sum := at(1000, "hello", someID)
	if at(1999, "hello", someID) != sum {
		t.Error("less than a millisecond counts")
	}
	for part, other := range map[string]uint32{"time": at(2000, "hello", someID), "value": at(1000, "", someID), "id": at(1000, "hello", "")} {
		if other == sum {
			t.Errorf("the %s does not count", part)
		}
	}
}
