package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// arrive reads the welcome and what follows up to live.
func (c *testClient) arrive() (welcome event, messages []event) {
	c.t.Helper()
	welcome = c.event()
	if welcome.Type != "welcome" {
		c.t.Fatalf("the first event is %+v", welcome)
	}
	for {
		switch e := c.event(); e.Type {
		case "live":
			return welcome, messages
		case "message":
			messages = append(messages, e)
		case "status", "pods":
		default:
			c.t.Fatalf("got %+v before live", e)
		}
	}
}

func texts(messages []event) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return strings.Join(all, " ")
}

func TestAckIsTheRecordReadBack(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	c := a.chat("")
	c.arrive()
	message, ack := c.publish(longID("one"), "hello")
	if message.ID != longID("one") || message.Name != "Ann" || message.Text != "hello" {
		t.Errorf("message %+v", message)
	}
	if ack.ID != message.ID || ack.Offset != message.Offset || ack.Millis <= 0 {
		t.Errorf("ack %+v for message %+v", ack, message)
	}
}

// publish says something and returns the message and the ack that came of it, in whatever order.
func (c *testClient) publish(id, text string) (message, ack event) {
	c.t.Helper()
	c.say(id, text)
	for message.ID != id || ack.ID != id {
		switch e := c.event(); e.Type {
		case "message":
			message = e
		case "ack":
			ack = e
		}
	}
	return message, ack
}

// A message that is sent again with its id, to whichever pod, is acked with the first copy's offset
// and does not appear again.
func TestSameIDAppearsOnce(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a, b := startPod(t, env("a")).waitReady(), startPod(t, env("b")).waitReady()
	one, two := a.chat(""), b.chat("")
	one.arrive()
	two.arrive()
	one.say(longID("same"), "once")
	first := one.until("ack", "message")
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

// A client that comes back, to another pod, gets exactly what it has missed.
func TestResumeOnAnotherPod(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a := startPod(t, env("a")).waitReady()
	c := a.chat("")
	c.arrive()
	var position string
	for i := range 5 {
		m, _ := c.publish(longID(fmt.Sprint("m", i)), fmt.Sprint(i))
		if i == 1 {
			position = m.Position
		}
	}
	b := startPod(t, env("b")).waitReady()
	for _, pod := range []*testPod{a, b} {
		welcome, missed := pod.chat("?after=" + position).arrive()
		if !welcome.Resumed || welcome.Reason != "" || welcome.Position != position {
			t.Errorf("welcome %+v", welcome)
		}
		if texts(missed) != "2 3 4" {
			t.Errorf("missed %q, want 2 3 4", texts(missed))
		}
	}
	if welcome, last := b.chat("?last=2").arrive(); welcome.Resumed || welcome.Reason != "fresh" || texts(last) != "3 4" {
		t.Errorf("?last=2: welcome %+v, messages %q", welcome, texts(last))
	}
}

func TestPositionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a := startPod(t, env("a")).waitReady()
	c := a.chat("")
	c.arrive()
	for i := range 3 {
		c.publish(longID(fmt.Sprint("m", i)), fmt.Sprint(i))
	}
	for _, p := range []struct{ position, reason string }{
		{"garbage", "fresh"},
		{"-5.00000000", "fresh"},
		{"1", "fresh"},
		{"99999999999999999999.00000000", "fresh"},
		{"1.zzzzzzzz", "fresh"},
		{"1.00000000", "reset"},   // another record there
		{"999.12345678", "reset"}, // beyond the topic's end
	} {
		welcome, _ := a.chat("?last=1&after=" + p.position).arrive()
		if welcome.Resumed || welcome.Reason != p.reason || welcome.Detail == "" {
			t.Errorf("after=%s: welcome %+v, want %s and a detail", p.position, welcome, p.reason)
		}
	}
}

// What the pod no longer has is told as a gap, and then comes what there is.
func TestPositionOlderThanTheLogIsAGap(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	env["LOG_BYTES"] = fmt.Sprint(64 << 10)
	a := startPod(t, env).waitReady()
	c := a.chat("")
	c.arrive()
	first, _ := c.publish(longID("first"), "first")
	for i := range 40 {
		c.publish(longID(fmt.Sprint("m", i)), strings.Repeat("x", 8000))
	}
	c.publish(longID("last"), "last")
	welcome, rest := a.chat("?after=" + first.Position).arrive()
	if welcome.Resumed || welcome.Reason != "gap" {
		t.Errorf("welcome %+v", welcome)
	}
	if len(rest) == 0 || len(rest) > 30 || rest[len(rest)-1].Text != "last" {
		t.Errorf("%d messages after the gap", len(rest))
	}
	// The same offset in another topic, for example in that of a pod which was an island: Kafka can tell.
	if welcome, rest := a.chat("?after=0.12345678").arrive(); welcome.Reason != "reset" || len(rest) == 0 || rest[len(rest)-1].Text != "last" {
		t.Errorf("a position of another topic: welcome %+v, %d messages", welcome, len(rest))
	}
	older := a.chat("?last=3&before=" + first.Position)
	if welcome := older.event(); welcome.Type != "welcome" || !welcome.Resumed {
		t.Errorf("before the first: %+v", welcome)
	}
	older.until("gap")
	older.until("live")
}

// A client reads older messages, and its connection ends there.
func TestOlderMessages(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	c := a.chat("")
	c.arrive()
	var position string
	for i := range 6 {
		m, _ := c.publish(longID(fmt.Sprint("m", i)), fmt.Sprint(i))
		if i == 4 {
			position = m.Position
		}
	}
	for query, want := range map[string]string{"?last=2": "2 3", "?last=9": "0 1 2 3"} {
		older := a.chat(query + "&before=" + position)
		if welcome, all := older.arrive(); !welcome.Resumed || texts(all) != want {
			t.Errorf("%s: welcome %+v, messages %q, want %q", query, welcome, texts(all), want)
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
	env := onKafka(t)
	brokers, topic := env("a")["KAFKA_BROKER"], env("a")["TOPIC"]
	a := startPod(t, env("a")).waitReady()
	chat, raw := a.chat(""), a.raw("")
	chat.arrive()
	chat.say(longID("old"), "old")
	position := chat.until("message", "ack").Position
	raw.want("old")
	kafkatest.Recreate(t, brokers, topic, "new 0", "new 1", "new 2")
	chat.until("reset", "ack", "message")
	for i := range 3 {
		if m := chat.until("message"); m.Text != fmt.Sprint("new ", i) {
			t.Fatalf("message %d of the new log is %+v", i, m)
		}
	}
	if code := raw.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("the raw client was closed with %d", code)
	}
	if welcome, all := a.chat("?after=" + position).arrive(); welcome.Reason != "reset" || texts(all) != "new 0 new 1 new 2" {
		t.Errorf("welcome %+v, messages %q", welcome, texts(all))
	}
}

func TestEventsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	c := a.chat("")
	c.arrive()
	for _, bad := range []struct{ event, id, reason string }{
		{`{`, "", "JSON"},
		{`[]`, "", "JSON"},
		{`{"type":"shout"}`, "", "shout"},
		{`{"id":"` + longID("a") + `","text":"x"}`, longID("a"), `"type"`},
		{`{"type":"message","text":"x"}`, "", `"id"`},
		{`{"type":"message","id":"1","text":"x"}`, "", "16 to 64"},
		{`{"type":"message","id":"` + strings.Repeat("i", 65) + `","text":"x"}`, "", "16 to 64"},
		{`{"type":"message","id":"` + longID("b") + `"}`, longID("b"), `"text"`},
		{`{"type":"message","id":"` + longID("c") + `","text":""}`, longID("c"), "empty"},
	} {
		c.send(bad.event)
		if e := c.until("reject"); e.ID != bad.id || !strings.Contains(e.Reason, bad.reason) {
			t.Errorf("%s: got %+v, want id %q and a reason with %q", bad.event, e, bad.id, bad.reason)
		}
	}
	// One that makes sense starts the count anew.
	c.publish(longID("good"), "good")
	c.say(longID("long"), strings.Repeat("x", 8<<10+1))
	if e := c.until("reject"); e.ID != longID("long") || !strings.Contains(e.Reason, "8192") {
		t.Errorf("too long: %+v", e)
	}
	for range 10 {
		if err := c.ws.WriteMessage(websocket.TextMessage, []byte("nonsense")); err != nil {
			break
		}
	}
	if code := c.closed(); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

// untilDown waits for the status that Kafka is down; that it is up may have been said before.
func (c *testClient) untilDown() {
	c.t.Helper()
	for c.until("status").Kafka != "down" {
	}
}

// arriveUp is a chat.v1 client that has been told that Kafka is up.
func (p *testPod) arriveUp() (c *testClient) {
	p.t.Helper()
	waitFor(p.t, "Kafka to be up", func() bool {
		c = p.chat("")
		welcome, _ := c.arrive()
		return welcome.Kafka == "up"
	})
	return c
}

// Kafka goes away and comes back: clients are told, and what was sent meanwhile arrives once.
func TestKafkaGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	proxy := kafkatest.NewProxy(t, brokers)
	a := startPod(t, map[string]string{"KAFKA_BROKER": proxy.Addr(), "TOPIC": kafkatest.Topic(t, brokers)}).waitReady()
	c := a.arriveUp()
	proxy.Refuse(true)
	proxy.Cut()
	c.untilDown()
	if status, _ := a.get("/readyz"); status != 200 {
		t.Errorf("/readyz while Kafka is away: %d; all pods share Kafka, so it says ready", status)
	}
	c.say(longID("patient"), "patient")
	proxy.Refuse(false)
	seen := map[string]int{}
	for seen["message"] == 0 || seen["ack"] == 0 || seen["status"] == 0 {
		e := c.event()
		if e.Type == "status" && e.Kafka != "up" {
			continue
		}
		seen[e.Type]++
	}
	c.say(longID("after"), "after")
	if m := c.until("message", "ack"); m.Text != "after" {
		t.Errorf("message %+v: the one before came twice", m)
	}
}

// Kafka does not go away but falls silent: its connections stay open, and nothing comes.
func TestKafkaFallsSilent(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	proxy := kafkatest.NewProxy(t, brokers)
	a := startPod(t, map[string]string{"KAFKA_BROKER": proxy.Addr(), "TOPIC": kafkatest.Topic(t, brokers)}).waitReady()
	c := a.arriveUp()
	proxy.Pause(kafkatest.Both)
	c.say(longID("patient"), "patient")
	c.untilDown()
	proxy.Resume()
	if m := c.until("message", "ack"); m.Text != "patient" {
		t.Errorf("message %+v", m)
	}
	c.say(longID("after"), "after")
	if m := c.until("message", "ack"); m.Text != "after" {
		t.Errorf("message %+v: the one before came twice", m)
	}
}

// Kafka can be reached and takes no messages: people are told so, the message waits, and it is there once
// when that is over.
func TestKafkaTakesNoMessages(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	proxy := kafkatest.NewProxy(t, brokers)
	a := startPod(t, map[string]string{"KAFKA_BROKER": proxy.Addr(), "TOPIC": kafkatest.Topic(t, brokers)}).waitReady()
	c := a.arriveUp()
	proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
		return kafkatest.Action{NotLeader: r.Key == kmsg.Produce}
	})
	c.say(longID("patient"), "patient")
	e := c.until("status")
	for e.Kafka != "down" {
		e = c.until("status")
	}
	if e.Reason != "Kafka does not take messages now" {
		t.Errorf("status %+v", e)
	}
	proxy.SetFault(nil)
	seen := map[string]int{}
	for seen["message"] == 0 || seen["ack"] == 0 || seen["up"] == 0 {
		e := c.event()
		seen[e.Type]++
		seen[e.Kafka]++
	}
	if seen["message"] != 1 {
		t.Errorf("the message came %d times", seen["message"])
	}
}
