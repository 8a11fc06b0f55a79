package chat_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
)

func TestParseRequest(t *testing.T) {
	text, name, longest := strings.Repeat("x", chat.MaxText), strings.Repeat("é", chat.MaxName/2), strings.Repeat("~", chat.MaxID)
	const message = `{"type":"message","id":"` + someID + `"`
	for _, c := range []struct {
		in   string
		want chat.Request
		err  string // part of it; "" for none
	}{
		{`{"text":" hi ","id":"` + someID + `","type":"message","name":" A ","new":1}`, chat.Request{ID: someID, Name: "A", Text: " hi "}, ""},
		{message + `,"text":"\u00e9\ud83d\ude00\u0000\n","again":true}`, chat.Request{ID: someID, Text: "é\U0001F600\x00\n", Again: true}, ""},
		{`{"type":"message","text":"` + text + `","name":"` + name + `","id":"` + longest + `"}`, chat.Request{longest, name, text, false}, ""},
		{`{"type":"message","id":"0123456789abcde!","text":"hi"}`, chat.Request{ID: "0123456789abcde!", Text: "hi"}, ""},
		{message + `,"text":"hi","again":"yes"}`, chat.Request{ID: someID}, "wrong type"},
		{message + `,"text":"x` + text + `"}`, chat.Request{ID: someID}, "8193 bytes; 8192"},
		{message + `,"text":null}`, chat.Request{ID: someID}, "no text"},
		{message + `,"name":"` + name + `x","text":"hi"}`, chat.Request{ID: someID}, "64 bytes"},
		{`{"type":"message","id":"0123456789abcde","text":"hi"}`, chat.Request{}, "16 to 64"},
		{`{"type":"message","id":"` + longest + `1","text":"hi"}`, chat.Request{}, "16 to 64"},
		{`{"type":"\u001b[2J\u202e` + text + `","id":"` + someID + `"}`, chat.Request{ID: someID}, `type "\x1b[2J\u202e` + text[:35] + `";`},
		{`{"type":"` + strings.Repeat("\x80", 3) + `"}`, chat.Request{}, "UTF-8"},
		{strings.Repeat(`{"a":`, 20_000), chat.Request{}, "JSON object"},
	} {
		got, err := chat.ParseRequest([]byte(c.in), chat.MaxText)
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%.100s: got %.100v, %v", c.in, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || got.ID != c.want.ID):
			t.Errorf("%.100s: got id %q, error %v, want id %q, error with %q", c.in, got.ID, err, c.want.ID, c.err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"type":"message","id":"` + someID + `","name":"Ada","text":"hi"}`))
	f.Add([]byte(`{"type":"message","id":"` + someID + `","text":"\ud800\u0000\ufffe"}`))
	f.Add([]byte(`{"type":"\u0000","id":[]}`))
	f.Add([]byte("{\"type\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := chat.ParseRequest(data, chat.MaxText)
		if r.ID != "" && chat.CheckID(r.ID) != nil {
			t.Errorf("took the id %q", r.ID)
		}
		if err != nil {
			reason := err.Error()
			if !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) || reason == "" || len(reason) > 500 {
				t.Errorf("the reason is no sentence for a person: %q", reason)
			}
			return
		}
		if r.ID == "" || r.Text == "" || len(r.Text) > chat.MaxText || !utf8.ValidString(r.Text) || chat.CheckName(r.Name) != nil {
			t.Errorf("took %+v", r)
		}
		// What is taken comes back from the topic as it is.
		m := chat.Message{ID: r.ID, Name: r.Name, Text: r.Text, Pod: "p"}
		record := &sarama.ConsumerMessage{Value: []byte(m.Text)}
		for _, h := range chat.Headers(m) {
			record.Headers = append(record.Headers, &h)
		}
		if got := chat.Decode(record); got != m {
			t.Errorf("got %+v, want %+v", got, m)
		}
	})
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{chat.Event("reset", nil), `{"type":"reset"}`},
		{chat.Event("reconnect", map[string]int{"within_ms": 5}), `{"type":"reconnect","within_ms":5}`},
		{chat.Ack(someID, 7, 1234567*time.Nanosecond), `{"type":"ack","id":"` + someID + `","ms":1.234,"offset":7}`},
		{chat.Reject(someID, "a \"b\"\n"), `{"type":"reject","id":"` + someID + `","reason":"a \"b\"\n"}`},
		{chat.Status(""), `{"type":"status","kafka":"up"}`},
		{chat.Status("<away>"), `{"type":"status","kafka":"down","reason":"<away>"}`},
		{chat.Event("welcome", chat.Welcome{Pod: "p", Where: "laptop", Broker: "b", Name: "Ada", Topic: "chat", Reason: "r", Detail: "d"}),
			`{"type":"welcome","pod":"p","where":"laptop","broker":"b","name":"Ada","topic":"chat","position":"","resumed":false,"reason":"r",` +
				`"detail":"d","standalone":false,"partitions":0,"max_bytes":0,"kafka":"","version":""}`},
		{chat.MessageEvent(chat.Message{Offset: 7, ID: someID, Name: "A", Pod: "p", Text: "<b>", Time: time.UnixMilli(45678)}, "7.c0ffee"),
			`{"type":"message","offset":7,"id":"` + someID + `","name":"A","pod":"p","text":"<b>",` +
				`"position":"7.c0ffee","time":"1970-01-01T00:00:45.678Z"}`},
	} {
		if string(c.got) != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}
