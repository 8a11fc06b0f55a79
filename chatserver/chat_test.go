package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

func TestMessageReachesAllPods(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a, b := startPod(t, env("a")), startPod(t, env("b"))
	one, two := a.raw(""), b.raw("")
	one.echo("hello")
	two.want("hello")
	const second = "and back\nin two lines, with ünïcödé 🦉"
	two.echo(second)
	one.want(second)

	b.raw("?last=1").want(second)
	four := a.chat("?last=2")
	if w := four.event(); w.Type != "welcome" || w.Pod != "a" || w.Standalone || w.Reason != "fresh" || w.Partitions != 1 || w.Kafka != "up" {
		t.Fatalf("welcome %+v", w)
	}
	if m := four.until("message"); m.Text != "hello" || m.Pod != "a" || m.ID == "" || m.Position == "" {
		t.Fatalf("message %+v", m)
	}
	if m := four.until("message"); m.Pod != "b" {
		t.Fatalf("message %+v", m)
	}
	four.until("live")
}

func TestStandAlonePodsAreIslands(t *testing.T) {
	t.Parallel()
	a, b := startPod(t, map[string]string{"POD_NAME": "a"}), startPod(t, map[string]string{"POD_NAME": "b"})
	one, two := a.raw(""), b.raw("")
	one.echo("only here")
	two.echo("only there") // and nothing before it
	one.echo("still only here")
	if w := a.chat("").event(); !w.Standalone {
		t.Fatalf("welcome %+v: want standalone", w)
	}
}

// Every client on both pods gets every message once, and all see one order.
func TestOneOrderForAll(t *testing.T) {
	t.Parallel()
	const clients, each = 20, 500
	env := onKafka(t)
	pods := []*testPod{startPod(t, env("a")), startPod(t, env("b"))}
	var all [clients]*testClient
	for i := range all {
		all[i] = pods[i%2].raw("") // before anybody speaks, so that it gets everything
	}
	var seen [clients]chan string
	for i, c := range all {
		seen[i] = make(chan string, 1)
		go func() {
			var text strings.Builder
			defer func() { seen[i] <- text.String() }()
			for range clients * each {
				_, b, err := c.ws.ReadMessage()
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				fmt.Fprintf(&text, "%s\n", b)
			}
		}()
		go func() {
			for n := range each {
				if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "client %d message %d", i, n)); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		}()
	}
	first := <-seen[0]
	var next [clients]int
	for line := range strings.Lines(first) {
		var c, n int
		if _, err := fmt.Sscanf(line, "client %d message %d", &c, &n); err != nil || next[c] != n {
			t.Fatalf("%q: want message %d of this client", line, next[c])
		}
		next[c]++
	}
	for i := range clients - 1 {
		if <-seen[i+1] != first {
			t.Errorf("client %d saw another order than client 0, or other messages", i+1)
		}
	}
}

// Whoever speaks as soon as the handshake is done sees what it has said, however busy the pod is.
func TestOwnFirstMessageIsSeen(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	for i := range 200 {
		c := a.raw("")
		c.echo(fmt.Sprint("message ", i))
		c.ws.Close()
	}
}

// The message comes to all as its sender has it, and the ack is the record read back. Sent again with its id, to
// whichever pod, it is acked with the first copy's offset, and does not appear again.
func TestSameIDAppearsOnce(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a, b := startPod(t, env("a")), startPod(t, env("b"))
	one, two := a.chat(""), b.chat("")
	one.arrive()
	two.arrive()
	message, first := one.publish(longID("same"), "once")
	if message.Name != "Ann" || message.Text != "once" || first.Offset != message.Offset || first.Millis <= 0 {
		t.Errorf("message %+v, ack %+v", message, first)
	}
	two.until("message") // b has it
	two.say(longID("same"), "twice")
	if again := two.until("ack"); again.Offset != first.Offset {
		t.Errorf("acked at %d, the first copy is at %d", again.Offset, first.Offset)
	}
	two.say(longID("next"), "next")
	if m := two.until("message", "ack"); m.Text != "next" {
		t.Errorf("message %+v", m)
	}
}

// A client that comes back, to another pod, gets exactly what it has missed, if its position is one of this topic.
func TestResumeOnAnotherPod(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a := startPod(t, env("a"))
	c := a.chat("")
	c.arrive()
	position := c.publishNumbers(5)[1]
	b := startPod(t, env("b"))
	for _, pod := range []*testPod{a, b} {
		welcome, missed := pod.chat("?after=" + position).arrive()
		if !welcome.Resumed || welcome.Reason != "" || welcome.Position != position || missed != "2 3 4" {
			t.Errorf("welcome %+v, missed %q, want 2 3 4", welcome, missed)
		}
	}
	if welcome, last := b.chat("?last=2").arrive(); welcome.Resumed || welcome.Reason != "fresh" || last != "3 4" {
		t.Errorf("?last=2: welcome %+v, messages %q", welcome, last)
	}
	for position, reason := range map[string]string{
		"garbage": "fresh", "-5.00000000": "fresh", "1": "fresh", "99999999999999999999.00000000": "fresh", "1.zzzzzzzz": "fresh",
		"1.00000000":   "reset", // another record there
		"999.12345678": "reset", // beyond the topic's end
	} {
		if welcome, _ := a.chat("?last=1&after=" + position).arrive(); welcome.Resumed || welcome.Reason != reason || welcome.Detail == "" {
			t.Errorf("after=%s: welcome %+v, want %s and a detail", position, welcome, reason)
		}
	}
}

// What the pod no longer has is told as a gap, and then comes what there is.
func TestPositionOlderThanTheLogIsAGap(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	env["LOG_BYTES"] = fmt.Sprint(64 << 10)
	a := startPod(t, env)
	c := a.chat("")
	c.arrive()
	first, _ := c.publish(longID("first"), "first")
	for i := range 40 {
		c.publish(longID(fmt.Sprint("m", i)), strings.Repeat("x", 8000))
	}
	c.publish(longID("last"), "last")
	for position, reason := range map[string]string{
		first.Position: "gap",
		"0.12345678":   "reset", // the same offset in another topic, such as that of an island: Kafka can tell
	} {
		welcome, rest := a.chat("?after=" + position).arrive()
		if welcome.Resumed || welcome.Reason != reason || len(strings.Fields(rest)) > 30 || !strings.HasSuffix(rest, "last") {
			t.Errorf("after=%s: welcome %+v, %d messages", position, welcome, len(strings.Fields(rest)))
		}
	}
	older := a.chat("?last=3&before=" + first.Position)
	if welcome := older.until("welcome"); !welcome.Resumed {
		t.Errorf("before the first: %+v", welcome)
	}
	older.until("gap")
	older.until("live")
}

// A client reads older messages, and its connection ends there.
func TestOlderMessages(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	c := a.chat("")
	c.arrive()
	position := c.publishNumbers(6)[4]
	for query, want := range map[string]string{"?last=2": "2 3", "?last=9": "0 1 2 3"} {
		older := a.chat(query + "&before=" + position)
		if welcome, all := older.arrive(); !welcome.Resumed || all != want {
			t.Errorf("%s: welcome %+v, messages %q, want %q", query, welcome, all, want)
		}
		if code := older.closed(); code != websocket.CloseNormalClosure {
			t.Errorf("%s: closed with %d", query, code)
		}
	}
}

// The topic is deleted and made again, with more records than were read: everybody is told, and
// gets the new log from its beginning.
func TestTopicMadeAgainIsAReset(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	a := startPod(t, env)
	chat, raw := a.chat(""), a.raw("")
	chat.arrive()
	old, _ := chat.publish(longID("old"), "old")
	raw.want("old")
	kafkatest.Recreate(t, env["KAFKA_BROKER"], env["TOPIC"], "new 0", "new 1", "new 2")
	chat.until("reset", "ack", "message")
	for i := range 3 {
		if m := chat.until("message"); m.Text != fmt.Sprint("new ", i) {
			t.Fatalf("message %d of the new log is %+v", i, m)
		}
	}
	if code := raw.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("the raw client was closed with %d", code)
	}
	if welcome, all := a.chat("?after=" + old.Position).arrive(); welcome.Reason != "reset" || all != "new 0 new 1 new 2" {
		t.Errorf("welcome %+v, messages %q", welcome, all)
	}
}

// The longest message that the settings allow reaches everybody; whoever sends something else is told so, and nobody else
// notices.
func TestMessageBytes(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	env["MESSAGE_BYTES"] = "1000000"
	a := startPod(t, env)
	raw, events := a.raw(""), a.chat("")
	events.arrive()
	for _, text := range []string{strings.Repeat("x", 1_000_000), strings.Repeat("\x01", 1_000_000)} { // six times as long in JSON
		raw.send("") // ignored
		raw.echo(text)
		if m := events.until("message"); m.Text != text {
			t.Errorf("%d bytes arrive", len(m.Text))
		}
	}
	events.publish(longID(strings.Repeat("i", 64-18)), strings.Repeat("\x02", 1_000_000))
	raw.read()
	events.say(longID("too-long"), strings.Repeat("x", 1_000_001))
	if e := events.until("reject"); e.ID != longID("too-long") || !strings.Contains(e.Reason, "1000000") {
		t.Errorf("%+v", e)
	}
	for reason, bad := range map[string]struct {
		kind int
		data string
		code int
	}{
		"binary":   {websocket.BinaryMessage, "abc", websocket.CloseUnsupportedData},
		"not_utf8": {websocket.TextMessage, "\xc3\x28", websocket.CloseInvalidFramePayloadData},
		"too_long": {websocket.TextMessage, strings.Repeat("x", 1_000_001), websocket.CloseMessageTooBig},
	} {
		c := a.raw("")
		if err := c.ws.WriteMessage(bad.kind, []byte(bad.data)); err != nil {
			t.Fatal(err)
		}
		if code := c.closed(); code != bad.code {
			t.Errorf("%s: closed with %d, want %d", reason, code, bad.code)
		}
		a.waitMetric(fmt.Sprintf("chat_rejects_total{reason=%q}", reason), 1)
	}
	raw.echo("still here")
}

// A pod has a handful of connections to Kafka, however many clients it has.
func TestConnectionsToKafkaAreConstant(t *testing.T) {
	t.Parallel()
	a, proxy := behindProxy(t)
	a.raw("").echo("warm up")
	before := proxy.Conns()
	for i := range 100 {
		a.raw("").echo(fmt.Sprint("client ", i))
	}
	if after := proxy.Conns(); after > before+8 { // some parts of the pod may connect a little later
		t.Errorf("%d connections with one client, %d with 101", before, after)
	}
}

// Kafka goes away, falls silent, or takes no messages, and is well again: clients are told so, and what was sent meanwhile
// waits and arrives once. All pods share Kafka, so the pod stays ready.
func TestKafkaIsAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin, end func(*kafkatest.Proxy)
		reason     string // as people are told; "": whatever
	}{
		"refuses":          {func(p *kafkatest.Proxy) { p.Refuse(true); p.Cut() }, func(p *kafkatest.Proxy) { p.Refuse(false) }, ""},
		"silent":           {func(p *kafkatest.Proxy) { p.Pause(kafkatest.Both) }, (*kafkatest.Proxy).Resume, ""},
		"takes no message": {notLeader, func(p *kafkatest.Proxy) { p.SetFault(nil) }, "Kafka does not take messages now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, proxy := behindProxy(t)
			client := a.chat("")
			welcome, _ := client.arrive()
			for up := welcome.Kafka == "up"; !up; {
				up = client.until("status").Kafka == "up"
			}
			c.begin(proxy)
			client.say(longID("patient"), "patient")
			down := client.until("status")
			for down.Kafka != "down" { // that it is up may have been said again
				down = client.until("status")
			}
			if c.reason != "" && down.Reason != c.reason {
				t.Errorf("status %+v", down)
			}
			if status, _ := a.get("/readyz"); status != 200 {
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
			client.say(longID("after"), "after")
			if m := client.until("message", "ack"); m.Text != "after" || seen["message"] != 1 {
				t.Errorf("message %+v, and the one before came %d times", m, seen["message"])
			}
		})
	}
}

func notLeader(p *kafkatest.Proxy) {
	p.SetFault(func(r kafkatest.Request) kafkatest.Action { return kafkatest.Action{NotLeader: r.Key == kmsg.Produce} })
}
