package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"

	"kafkachat/internal/kafkatest"
)

func TestForeignRecordsNeverStopThePod(t *testing.T) {
	t.Parallel()
	header := func(pairs ...string) (headers []sarama.RecordHeader) {
		for pair := range slices.Chunk(pairs, 2) {
			headers = append(headers, sarama.RecordHeader{Key: []byte(pair[0]), Value: []byte(pair[1])})
		}
		return headers
	}
	long := strings.Repeat("x", 1_000_000)
	escaped := strings.Repeat("\x01", 500_000) // six times as long in JSON
	records := []struct {
		name    string
		value   sarama.Encoder
		headers []sarama.RecordHeader
		want    event // Text "" stands for an empty one
	}{
		{"no headers", sarama.StringEncoder("plain"), nil, event{Text: "plain"}},
		{"empty", sarama.StringEncoder(""), nil, event{}},
		{"a tombstone", nil, nil, event{}},
		{"binary", sarama.StringEncoder("\x00\xff\xfe"), nil, event{Text: "(3 bytes that are not text)", Placeholder: true}},
		{"a megabyte of text", sarama.StringEncoder(long), nil, event{Text: long}},
		{"half a megabyte of control characters", sarama.StringEncoder(escaped), nil, event{Text: escaped}},
		{"a megabyte of bytes", sarama.StringEncoder(strings.Repeat("\xfe", 1_000_000)), nil, event{Text: "(1000000 bytes that are not text)", Placeholder: true}},
		{"headers of another program", sarama.StringEncoder("traced"), header("traceparent", "00-4bf92f", "", "", "id ", "x"), event{Text: "traced"}},
		{"a short id", sarama.StringEncoder("short id"), header("id", "1"), event{Text: "short id"}},
		{"the same short id", sarama.StringEncoder("short id again"), header("id", "1"), event{Text: "short id again"}},
		{"a long id", sarama.StringEncoder("long id"), header("id", strings.Repeat("i", 100_000)), event{Text: "long id"}},
		{"a binary id", sarama.StringEncoder("binary id"), header("id", "\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff"), event{Text: "binary id"}},
		{"a name that is none", sarama.StringEncoder("bad name"), header("name", "a\nb", "pod", "\xff"), event{Text: "bad name"}},
		{"a long name", sarama.StringEncoder("long name"), header("name", strings.Repeat("n", 65)), event{Text: "long name"}},
		{"a good name", sarama.StringEncoder("good name"), header("name", "Ann", "pod", "elsewhere"), event{Text: "good name", Name: "Ann", Pod: "elsewhere"}},
		{"many headers", sarama.StringEncoder("many"), slices.Repeat(header("id", "x", "h", "y"), 5000), event{Text: "many"}},
		{"markup", sarama.StringEncoder("<script>alert(1)</script>\u2028\u202e"), nil, event{Text: "<script>alert(1)</script>\u2028\u202e"}},
		{"an event", sarama.StringEncoder(`{"type":"reset"}`), nil, event{Text: `{"type":"reset"}`}},
	}
	env := onKafka(t)("a")
	a := startPod(t, env)
	raw, chat := a.raw(""), a.chat("")
	chat.arrive()
	placeholders := 0.0
	for _, r := range records {
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: r.value, Headers: r.headers})
		raw.want(r.want.Text)
		m := chat.until("message")
		if m.Text != r.want.Text || m.Placeholder != r.want.Placeholder || m.Name != r.want.Name || m.Pod != r.want.Pod || m.ID != "" {
			t.Errorf("%s: %.300q", r.name, fmt.Sprintf("%+v", m))
		}
		if r.want.Placeholder {
			placeholders++
		}
	}
	if n := a.metric("chat_placeholders_total"); n != placeholders {
		t.Errorf("%v placeholders are counted, of %v", n, placeholders)
	}
	newest := "and the chat goes on"
	raw.echo(newest)

	// A pod that reads all this when it starts is none the worse for it, even if its log is too small
	// for one of the records.
	for _, logBytes := range []string{"16777216", "65536"} {
		env["LOG_BYTES"] = logBytes
		b := startPod(t, env)
		late := b.raw("?last=1")
		late.want(newest)
		late.echo("with " + logBytes)
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: sarama.StringEncoder(long)})
		// One that is larger than the log may cut clients off, who come back.
		newest = "go on with " + logBytes
		waitFor(t, "the chat to go on", func() bool {
			again, _, err := b.tryDial()
			if err != nil {
				return false
			}
			defer again.Close()
			again.WriteMessage(websocket.TextMessage, []byte(newest))
			again.SetReadDeadline(time.Now().Add(10 * time.Second))
			for {
				if _, text, err := again.ReadMessage(); err != nil || string(text) == newest {
					return err == nil
				}
			}
		})
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
