package record_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kafkachat/chatserver/internal/record"
)

func TestParseRequest(t *testing.T) {
	text := strings.Repeat("x", record.MaxText)
	for _, c := range []struct {
		in   string
		want record.Request
		err  string // part of it; "" for none
	}{
		{`{"type":"message","id":"` + someID + `","name":"Ada","text":"hi"}`, record.Request{ID: someID, Name: "Ada", Text: "hi"}, ""},
		{` {"text":" hi ","id":"` + someID + `","type":"message","name":"  Ada ","later":{"x":[1]}} `, record.Request{ID: someID, Name: "Ada", Text: " hi "}, ""},
		{`{"type":"message","id":"` + someID + `","text":"\u00e9\ud83d\ude00\u0000"}`, record.Request{ID: someID, Text: "é\U0001F600\x00"}, ""},
		{`{"type":"message","id":"` + someID + `","name":null,"text":"hi"}`, record.Request{ID: someID, Text: "hi"}, ""},
		{`{"type":"message","id":"` + someID + `","text":"hi","again":true}`, record.Request{ID: someID, Text: "hi", Again: true}, ""},
		{`{"type":"message","id":"` + someID + `","text":"hi","again":false}`, record.Request{ID: someID, Text: "hi"}, ""},
		{`{"type":"message","id":"` + someID + `","text":"hi","again":"yes"}`, record.Request{ID: someID}, "wrong type"},
		{`{"type":"message","id":"` + someID + `","text":"` + text + `"}`, record.Request{ID: someID, Text: text}, ""},
		{`{"type":"message","id":"` + someID + `","text":"x` + text + `"}`, record.Request{ID: someID}, "8193 bytes; 8192"},
		{`{"type":"message","id":"` + someID + `","text":""}`, record.Request{ID: someID}, "empty"},
		{`{"type":"message","id":"` + someID + `"}`, record.Request{ID: someID}, `"text" is missing`},
		{`{"type":"message","id":"` + someID + `","text":null}`, record.Request{ID: someID}, `"text" is missing`},
		{`{"type":"message","id":"` + someID + `","text":1}`, record.Request{ID: someID}, "JSON object"},
		{`{"type":"message","id":"` + someID + `","name":"` + strings.Repeat("n", 65) + `","text":"hi"}`, record.Request{ID: someID}, "64 bytes"},
		{`{"type":"message","id":"` + someID + `","name":"a\u0000b","text":"hi"}`, record.Request{ID: someID}, "cannot be shown"},
		{`{"type":"message","id":"1","text":"hi"}`, record.Request{}, "16 to 64"},
		{`{"type":"message","id":"","text":"hi"}`, record.Request{}, "16 to 64"},
		{`{"type":"message","id":"` + strings.Repeat("1", 65) + `","text":"hi"}`, record.Request{}, "16 to 64"},
		{`{"type":"message","text":"hi"}`, record.Request{}, `"id" is missing`},
		{`{"type":"shout","id":"` + someID + `","text":"hi"}`, record.Request{ID: someID}, `"shout"`},
		{`{"type":"` + strings.Repeat("\x80", 3) + `"}`, record.Request{}, "UTF-8"},
		{`{"id":"` + someID + `","text":"hi"}`, record.Request{ID: someID}, `"type" is missing`},
		{`{}`, record.Request{}, `"type" is missing`},
		{`null`, record.Request{}, `"type" is missing`},
		{``, record.Request{}, "JSON"},
		{`[]`, record.Request{}, "JSON"},
		{`"message"`, record.Request{}, "JSON"},
		{`hello`, record.Request{}, "JSON"},
		{`{"type":"message"`, record.Request{}, "JSON"},
		{strings.Repeat(`{"a":`, 20_000), record.Request{}, "JSON"},
	} {
		got, err := record.ParseRequest([]byte(c.in), record.MaxText)
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
		r, err := record.ParseRequest(data, record.MaxText)
		if r.ID != "" && record.CheckID(r.ID) != nil {
			t.Errorf("took the id %q", r.ID)
		}
		if err != nil {
			if reason := err.Error(); !utf8.ValidString(reason) || reason == "" || len(reason) > 500 {
				t.Errorf("the reason is no sentence for a person: %q", reason)
			}
			return
		}
		switch {
		case r.ID == "", r.Text == "", len(r.Text) > record.MaxText, !utf8.ValidString(r.Text), record.CheckName(r.Name) != nil:
			t.Errorf("took %+v", r)
		}
		// What is taken comes back as it is, from the topic and to the clients.
		m := record.Message{ID: r.ID, Name: r.Name, Text: r.Text, Pod: "p", Time: time.UnixMilli(0)}
		if got := record.Decode(consumed(m)); got != m {
			t.Errorf("got %+v, want %+v", got, m)
		}
	})
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{record.Event("reset", nil), `{"type":"reset"}`},
		{record.Event("x", struct{}{}), `{"type":"x"}`},
		{record.Event("reconnect", map[string]int{"within_ms": 5}), `{"type":"reconnect","within_ms":5}`},
		{record.Ack(someID, 7, 1234567*time.Nanosecond), `{"type":"ack","id":"` + someID + `","offset":7,"ms":1.234}`},
		{record.Reject("", "no"), `{"type":"reject","reason":"no"}`},
		{record.Reject(someID, "a \"b\"\n"), `{"type":"reject","id":"` + someID + `","reason":"a \"b\"\n"}`},
		{record.Status(record.Down), `{"type":"status","kafka":"down"}`},
		{record.Live("7.00c0ffee"), `{"type":"live","position":"7.00c0ffee"}`},
		{record.Event("welcome", record.Welcome{Pod: "p", Topic: "chat", Position: "1.00000000", Resumed: true, Partitions: 1, MaxBytes: 8192, Kafka: record.Up, Version: "v"}),
			`{"type":"welcome","pod":"p","topic":"chat","position":"1.00000000","resumed":true,"standalone":false,"partitions":1,"max_bytes":8192,"kafka":"up","version":"v"}`},
		{record.Event("welcome", record.Welcome{Reason: record.Fresh, Detail: "d"}),
			`{"type":"welcome","pod":"","topic":"","position":"","resumed":false,"reason":"fresh","detail":"d","standalone":false,"partitions":0,"max_bytes":0,"kafka":"","version":""}`},
	} {
		if string(c.got) != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
		if !json.Valid(c.got) {
			t.Errorf("not JSON: %s", c.got)
		}
	}
}

func TestChecksExplain(t *testing.T) {
	for _, err := range []error{record.CheckID(""), record.CheckID("é" + someID), record.CheckName("a\x00"), record.CheckName("\xff"), record.CheckName(strings.Repeat("n", 65))} {
		if err == nil || len(fmt.Sprint(err)) < 20 {
			t.Errorf("%v", err)
		}
	}
	for _, name := range []string{"", "Ada", "Ænima \U0001F600", strings.Repeat("n", 64)} {
		if err := record.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
