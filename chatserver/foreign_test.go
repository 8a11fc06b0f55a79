package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"

	"kafkachat/internal/kafkatest"
)

// What other programs write never stops a pod. What is shown of a record, chat's TestForeignRecords says.
func TestForeignRecordsNeverStopThePod(t *testing.T) {
	t.Parallel()
	header := func(key, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	long := sarama.StringEncoder(strings.Repeat("x", 1_000_000))
	env := onKafka(t)("a")
	a := startPod(t, env)
	raw, chat := a.raw(""), a.chat("")
	chat.arrive()
	var first event
	for _, r := range []struct {
		value   sarama.Encoder
		headers []sarama.RecordHeader
		want    event
	}{
		{nil, nil, event{}}, // a tombstone
		{long, nil, event{Text: string(long)}},
		{sarama.StringEncoder(strings.Repeat("\x01", 500_000)), nil, event{Text: strings.Repeat("\x01", 500_000)}}, // six times as long in JSON
		{sarama.StringEncoder(strings.Repeat("\xfe", 1_000_000)), nil, event{Text: "(1000000 bytes that are not text)", Placeholder: true}},
		{sarama.StringEncoder(`{"type":"reset"}`), slices.Repeat([]sarama.RecordHeader{header("id", "x"), header("h", "y")}, 5000), event{Text: `{"type":"reset"}`}},
		{sarama.StringEncoder("named"), []sarama.RecordHeader{header("name", "Ann"), header("pod", "elsewhere")}, event{Text: "named", Name: "Ann", Pod: "elsewhere"}},
	} {
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: r.value, Headers: r.headers})
		raw.want(r.want.Text)
		m := chat.until("message")
		if m.Text != r.want.Text || m.Placeholder != r.want.Placeholder || m.Name != r.want.Name || m.Pod != r.want.Pod || m.ID != "" {
			t.Errorf("got %.300v, want %.300v", m, r.want)
		}
		if first.Position == "" {
			first = m
		}
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
		if logBytes == "65536" { // the first record is in Kafka alone, which tells whether a position is of this topic
			for position, reason := range map[string]string{first.Position: "gap", "0.12345678": "reset"} {
				if w, _ := b.chat("?after=" + position).arrive(); w.Resumed || w.Reason != reason {
					t.Errorf("after=%s: welcome %+v, want %s", position, w, reason)
				}
			}
		}
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: long})
		// One that is larger than the log may cut clients off, who come back.
		newest = "go on with " + logBytes
		waitFor(t, "the chat to go on", func() bool {
			again, _, err := b.tryDial("", "")
			if err != nil {
				return false
			}
			again.ws.WriteMessage(websocket.TextMessage, []byte(newest))
			again.ws.SetReadDeadline(time.Now().Add(patience))
			for {
				if _, text, err := again.ws.ReadMessage(); err != nil || string(text) == newest {
					return err == nil
				}
			}
		})
	}
}
