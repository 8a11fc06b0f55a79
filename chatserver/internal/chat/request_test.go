package chat_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"kafkachat/chatserver/internal/chat"
)

func TestParseRequest(t *testing.T) {
	text, name, longest := strings.Repeat("x", chat.MaxText), strings.Repeat("é", chat.MaxName/2), strings.Repeat("~", chat.MaxID)
	for _, c := range []struct {
		in   string
		want chat.Request
		err  string // part of it; "" for none
	}{
		{` {"text":" hi ","id":"` + someID + `","type":"message","name":"  Ada ","later":{"x":[1]}} `, chat.Request{ID: someID, Name: "Ada", Text: " hi "}, ""},
		{`{"type":"message","id":"` + someID + `","text":"\u00e9\ud83d\ude00\u0000","name":null,"again":true}`, chat.Request{ID: someID, Text: "é\U0001F600\x00", Again: true}, ""},
		{`{"type":"message","id":"` + someID + `","text":"hi","again":"yes"}`, chat.Request{ID: someID}, "wrong type"},
		{`{"type":"message","id":"` + someID + `","text":"` + text + `"}`, chat.Request{ID: someID, Text: text}, ""},
		{`{"type":"message","id":"` + someID + `","text":"x` + text + `"}`, chat.Request{ID: someID}, "8193 bytes; 8192"},
		{`{"type":"message","id":"` + longest + `","name":"` + name + `","text":"grüß dich\n"}`, chat.Request{ID: longest, Name: name, Text: "grüß dich\n"}, ""},
		{`{"type":"message","id":"` + strings.Repeat("!", chat.MinID) + `","text":"hi"}`, chat.Request{ID: strings.Repeat("!", chat.MinID), Text: "hi"}, ""},
		{`{"type":"message","id":"` + someID + `","text":""}`, chat.Request{ID: someID}, "no text"},
		{`{"type":"message","id":"` + someID + `","text":null}`, chat.Request{ID: someID}, "no text"},
		{`{"type":"message","id":"` + someID + `","text":1}`, chat.Request{ID: someID}, "JSON object"},
		{`{"type":"message","id":"` + someID + `","name":"` + name + `x","text":"hi"}`, chat.Request{ID: someID}, "64 bytes"},
		{`{"type":"message","id":"` + someID + `","name":"a\u0000b","text":"hi"}`, chat.Request{ID: someID}, "cannot be shown"},
		{`{"type":"message","id":"0123456789abcde","text":"hi"}`, chat.Request{}, "16 to 64"},
		{`{"type":"message","id":"` + longest + `1","text":"hi"}`, chat.Request{}, "16 to 64"},
		{`{"type":"shout","id":"` + someID + `","text":"hi"}`, chat.Request{ID: someID}, `"shout"`},
		{`{"type":"\u001b[2J\u202e` + text + `"}`, chat.Request{}, `type "\x1b[2J\u202exxxxx`},
		{`{"type":"` + strings.Repeat("\x80", 3) + `"}`, chat.Request{}, "UTF-8"},
		{`{"id":"` + someID + `","text":"hi"}`, chat.Request{ID: someID}, `type ""`},
		{`null`, chat.Request{}, `type ""`},
		{``, chat.Request{}, "JSON"},
		{`"message"`, chat.Request{}, "JSON"},
		{`{"type":"message"`, chat.Request{}, "JSON"},
		{strings.Repeat(`{"a":`, 20_000), chat.Request{}, "JSON"},
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
			if reason := err.Error(); !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) || reason == "" || len(reason) > 500 {
				t.Errorf("the reason is no sentence for a person: %q", reason)
			}
			return
		}
		switch {
		case r.ID == "", r.Text == "", len(r.Text) > chat.MaxText, !utf8.ValidString(r.Text), chat.CheckName(r.Name) != nil:
			t.Errorf("took %+v", r)
		}
		// What is taken comes back as it is, from the topic and to the clients.
		m := chat.Message{ID: r.ID, Name: r.Name, Text: r.Text, Pod: "p", Time: time.UnixMilli(0)}
		if got := chat.Decode(consumed(m)); got != m {
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
		{chat.Event("welcome", chat.Welcome{Pod: "p", Where: "laptop", Name: "Ada", Topic: "chat", Reason: chat.Fresh, Detail: "d", Partitions: 1, MaxBytes: 8192, Kafka: "up", Version: "v"}),
			`{"type":"welcome","pod":"p","where":"laptop","name":"Ada","topic":"chat","position":"","resumed":false,"reason":"fresh","detail":"d","standalone":false,"partitions":1,"max_bytes":8192,"kafka":"up","version":"v"}`},
	} {
		if string(c.got) != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}
