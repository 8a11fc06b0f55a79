package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
)

// What other programs write never stops a pod. What is shown of a record, chat's TestForeignRecords says.
func TestForeignRecordsNeverStopThePod(t *testing.T) {
	t.Parallel()
	headers := slices.Repeat([]sarama.RecordHeader{{Key: []byte("id"), Value: []byte("x")}, {Key: []byte("h"), Value: []byte("y")}}, 5000)
	long := sarama.StringEncoder(strings.Repeat("x", 1_000_000))
	env := onKafka(t)("a")
	a := startPod(t, env)
	raw, chat := a.raw(""), a.chat("")
	chat.arrive()
	var first event
	for _, r := range []struct {
		value   sarama.Encoder
		headers []sarama.RecordHeader
		want    string
	}{
		{nil, nil, ""}, // a tombstone
		{long, nil, string(long)},
		{sarama.StringEncoder(strings.Repeat("\x01", 500_000)), nil, strings.Repeat("\x01", 500_000)}, // six times as long in JSON
		{sarama.StringEncoder(strings.Repeat("\xfe", 1_000_000)), nil, "(1000000 bytes that are not text)"},
		{sarama.StringEncoder(`{"type":"reset"}`), headers, `{"type":"reset"}`},
	} {
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: r.value, Headers: r.headers})
		raw.want(r.want)
		m := chat.until("message")
		if m.Text != r.want || m.ID != "" {
			t.Errorf("got %.300v, want %.300s", m, r.want)
		}
		if first.Position == "" {
			first = m
		}
	}
	raw.echo("and the chat goes on")

	// A pod that reads all this when it starts is none the worse for it, even if its log is too small for one of the records. The
	// first one is in Kafka alone, which tells whether a position is of this topic.
	env["LOG_BYTES"] = "65536"
	b := startPod(t, env)
	late := b.raw("?last=1")
	late.want("and the chat goes on")
	late.echo("with a small log")
	for position, reason := range map[string]string{first.Position: "gap", "0.12345678": "reset"} {
		if w, _ := b.chat("?after=" + position).arrive(); w.Resumed || w.Reason != reason {
			t.Errorf("after=%s: welcome %+v, want %s", position, w, reason)
		}
	}
	kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: long})
	waitFor(t, "the chat to go on", func() bool { // clients may be cut off, and come back
		again, _, err := b.tryDial("", "")
		if err == nil {
			err = again.tryEcho("on and on")
		}
		return err == nil
	})
}
