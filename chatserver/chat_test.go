package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// Two pods of one topic are one chat. Who comes back, to whichever pod, gets what was missed: history's TestPlaces has every position.
func TestTwoPods(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a, b := startPod(t, env("a")), startPod(t, env("b"))
	raw, ann, bob := a.raw(""), b.chat(""), a.chat("")
	if w, _ := ann.arrive(); w.Pod != "b" || w.Standalone || w.Where != "laptop" || w.Reason != "fresh" || w.Partitions != 1 {
		t.Errorf("welcome %+v", w)
	}
	bob.arrive()
	const text = "in two lines,\nwith ünïcödé 🦉"
	raw.echo(text)
	bob.until("message")
	if m := ann.until("message"); m.Text != text || m.Pod != "a" || m.ID == "" {
		t.Errorf("message %+v", m)
	}
	// The ack is the record read back. The same id again, at another pod, is acked with the first copy's offset.
	first, ack := ann.publish(longID("same"), "once")
	raw.want("once")
	if first.Name != "Ann" || first.Text != "once" || first.Pod != "b" || ack.Offset != first.Offset || ack.Millis <= 0 {
		t.Errorf("message %+v, ack %+v", first, ack)
	}
	bob.until("message")
	bob.say(longID("same"), "twice")
	if again := bob.until("ack"); again.Offset != first.Offset {
		t.Errorf("acked at %d, the first copy is at %d", again.Offset, first.Offset)
	}
	last, _ := bob.publish(longID("last"), "last")
	raw.want("last")
	ann.until("message") // so both have read it
	for query, want := range map[string]event{
		"?after=" + first.Position:        {Resumed: true, Text: "last"},
		"?last=2":                         {Reason: "fresh", Text: "once last"},
		"?last=1&after=1.00000000":        {Reason: "reset", Text: text + " once last", Detail: "says why"}, // another record there
		"?last=2&before=" + last.Position: {Resumed: true, Text: text + " once"},
	} {
		for _, pod := range []*testPod{a, b} {
			w, all := pod.chat(query).arrive()
			if w.Resumed != want.Resumed || w.Reason != want.Reason || all != want.Text || (w.Detail == "") != (want.Detail == "") {
				t.Errorf("%s: welcome %+v, messages %q, want %+v", query, w, all, want)
			}
		}
	}
	// Many talk at once on both pods. Everybody sees one order, in which each client's messages are as it sent them, and once.
	const clients, each = 20, 200
	other := b.raw("")
	for i := range clients {
		c := []*testPod{a, b}[i%2].raw("")
		go func() {
			for n := range each {
				c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%d %d", i, n))
			}
		}()
	}
	var next [clients]int
	for range clients * each {
		text := raw.read()
		other.want(text)
		var client, n int
		if fmt.Sscan(text, &client, &n); n != next[client] {
			t.Fatalf("%q comes before message %d of this client", text, next[client])
		}
		next[client]++
	}
}

// While Kafka is not well, clients are told so, what they send waits and then arrives once, and the pod stays ready: all pods share Kafka.
func TestKafkaIsAway(t *testing.T) {
	t.Parallel()
	leaderless := func(r kafkatest.Request) kafkatest.Action { return kafkatest.Action{NotLeader: r.Key == kmsg.Produce} }
	takesNone, takesAll := func(p *kafkatest.Proxy) { p.SetFault(leaderless) }, func(p *kafkatest.Proxy) { p.SetFault(nil) }
	for name, c := range map[string]struct {
		begin, end func(*kafkatest.Proxy)
		reason     string // as people are told
	}{
		"refuses":          {func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, func(p *kafkatest.Proxy) { p.Refuse(false) }, "Kafka"},
		"silent":           {func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) }, (*kafkatest.Proxy).Resume, "Kafka"},
		"takes no message": {takesNone, takesAll, "Kafka does not take messages now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := onKafka(t)("a")
			proxy := kafkatest.NewProxy(t, env["KAFKA_BROKER"])
			env["KAFKA_BROKER"] = proxy.Addr()
			a := startPod(t, env)
			client := a.chat("")
			welcome, _ := client.arrive()
			for welcome.Kafka != "up" {
				welcome = client.until("status")
			}
			c.begin(proxy)
			client.say(longID("patient"), "patient")
			refused := func() bool { return strings.Contains(a.log.String(), sarama.ErrNotLeaderForPartition.Error()) } // else a time-out came first
			for down := client.until("status"); down.Kafka != "down" || !strings.HasPrefix(down.Reason, c.reason) && refused(); {
				down = client.until("status") // that it is up may have been said again
			}
			if status, _ := fetch(t, "GET", a.url+"/readyz"); status != http.StatusOK {
				t.Errorf("/readyz: %d", status)
			}
			time.Sleep(time.Second) // what is sent again too soon must have the time to be
			c.end(proxy)
			seen := make(map[string]int)
			for seen["message"] == 0 || seen["ack"] == 0 || seen["up"] == 0 {
				e := client.event()
				seen[e.Type]++
				seen[e.Kafka]++
			}
			client.publish(longID("after"), "after")
			if _, all := a.chat("?last=9").arrive(); all != "patient after" || seen["message"] != 1 {
				t.Errorf("the messages are %q, and the first one came %d times", all, seen["message"])
			}
		})
	}
}

// Neither what other programs write nor the longest message that the settings allow stops a pod.
func TestLargeAndForeignRecords(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	env["MESSAGE_BYTES"] = "1000000"
	a := startPod(t, env)
	raw, chat := a.raw(""), a.chat("")
	chat.arrive()
	produce := func(value sarama.Encoder, headers ...sarama.RecordHeader) {
		kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"], &sarama.ProducerMessage{Value: value, Headers: headers})
	}
	long, control := strings.Repeat("x", 1_000_000), strings.Repeat("\x01", 1_000_000) // which is six times as long in JSON
	produce(sarama.StringEncoder(strings.Repeat("\xfe", 1_000_000)))
	produce(nil) // a tombstone
	header := sarama.RecordHeader{Key: []byte("id"), Value: []byte("x")}
	produce(sarama.StringEncoder(`{"type":"reset"}`), slices.Repeat([]sarama.RecordHeader{header}, 10_000)...)
	var positions []string
	for _, want := range []string{"(1000000 bytes that are not text)", "", `{"type":"reset"}`} {
		raw.want(want)
		m := chat.until("message")
		if m.Text != want || m.ID != "" {
			t.Errorf("got %.300v, want %q", m, want)
		}
		positions = append(positions, m.Position)
	}
	raw.echo(long)
	chat.until("message")
	if m, _ := chat.publish(strings.Repeat("i", 64), control); m.Text != control {
		t.Errorf("%d bytes arrive", len(m.Text))
	}
	raw.want(control)
	chat.say(longID("too-long"), long+"x")
	if e := chat.until("reject"); e.ID != longID("too-long") || !strings.Contains(e.Reason, "1000000") {
		t.Errorf("%+v", e)
	}
	raw.echo("and the chat goes on")

	// So does a pod that reads all this at its start, though its log is too small for the first record: Kafka alone has that one.
	env["LOG_BYTES"], env["MESSAGE_BYTES"] = "65536", "8192"
	b := startPod(t, env)
	late := b.raw("?last=1")
	late.want("and the chat goes on")
	late.echo("with a small log")
	for position, reason := range map[string]string{positions[0]: "gap", "0.12345678": "reset"} {
		waitFor(t, reason+" after "+position, func() bool { // when Kafka answers too late, a pod says gap
			w, _ := b.chat("?after=" + position).arrive()
			return !w.Resumed && w.Reason == reason
		})
	}
}
