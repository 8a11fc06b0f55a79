package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"kafkachat/internal/kafkatest"
)

func TestMessageReachesAllPods(t *testing.T) {
	t.Parallel()
	env := onKafka(t)
	a, b := startPod(t, env("a")).waitReady(), startPod(t, env("b")).waitReady()
	one, two := a.raw(""), b.raw("")
	one.send("hello")
	one.want("hello")
	two.want("hello")
	two.send("and back\nin two lines, with ünïcödé 🦉")
	one.want("and back\nin two lines, with ünïcödé 🦉")
	two.want("and back\nin two lines, with ünïcödé 🦉")

	three := b.raw("?last=1")
	three.want("and back\nin two lines, with ünïcödé 🦉")
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
	a, b := startPod(t, map[string]string{"POD_NAME": "a"}).waitReady(), startPod(t, map[string]string{"POD_NAME": "b"}).waitReady()
	one, two := a.raw(""), b.raw("")
	one.send("only here")
	one.want("only here")
	two.send("only there")
	two.want("only there") // and nothing before it
	one.send("still only here")
	one.want("still only here")
	if w := a.chat("").event(); !w.Standalone {
		t.Fatalf("welcome %+v: want standalone", w)
	}
}

func TestKafkawritesLineAppears(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	a := startPod(t, env).waitReady()
	raw, chat := a.raw(""), a.chat("")
	chat.until("live", "welcome")
	kafkatest.Produce(t, env["KAFKA_BROKER"], env["TOPIC"], "a line", "\xff\xfe")
	raw.want("a line")
	if m := chat.until("message"); m.Text != "a line" || m.ID != "" || m.Name != "" {
		t.Fatalf("message %+v", m)
	}
	raw.want("(2 bytes that are not text)")
	if m := chat.until("message"); !m.Placeholder {
		t.Fatalf("message %+v", m)
	}
}

// Every client on both pods gets every message once, and all see one order.
func TestOneOrderForAll(t *testing.T) {
	t.Parallel()
	const clients, each = 20, 500
	env := onKafka(t)
	pods := []*testPod{startPod(t, env("a")).waitReady(), startPod(t, env("b")).waitReady()}
	conns := make([]*testClient, clients)
	for i := range clients {
		conns[i] = pods[i%2].raw("") // before anybody speaks, so that it gets everything
	}
	seen := make([]chan []string, clients)
	for i, c := range conns {
		seen[i] = make(chan []string, 1)
		go func() {
			var all []string
			for range clients * each {
				_, b, err := c.ws.ReadMessage()
				if err != nil {
					t.Errorf("client %d after %d messages: %v", i, len(all), err)
					break
				}
				all = append(all, string(b))
			}
			seen[i] <- all
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
	var first string
	for i := range clients {
		all := <-seen[i]
		if i == 0 {
			first = strings.Join(all, "\n")
			next := make([]int, clients)
			for _, m := range all {
				var c, n int
				if _, err := fmt.Sscanf(m, "client %d message %d", &c, &n); err != nil || next[c] != n {
					t.Fatalf("%q: want message %d of this client", m, next[c])
				}
				next[c]++
			}
		} else if strings.Join(all, "\n") != first {
			t.Errorf("client %d saw another order than client 0, or other messages", i)
		}
	}
}

// Whoever speaks as soon as the handshake is done sees what it has said, however busy the pod is.
func TestOwnFirstMessageIsSeen(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	for i := range 200 {
		c := a.raw("")
		text := fmt.Sprint("message ", i)
		c.send(text)
		c.want(text)
		c.ws.Close()
	}
}

func TestBadMessagesCloseOnlyTheirOwnConnection(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	bystander := a.raw("")
	for _, bad := range []struct {
		name string
		kind int
		data string
		code int
	}{
		{"binary", websocket.BinaryMessage, "abc", websocket.CloseUnsupportedData},
		{"not UTF-8", websocket.TextMessage, "\xc3\x28", websocket.CloseInvalidFramePayloadData},
		{"too long", websocket.TextMessage, strings.Repeat("x", 8<<10+1), websocket.CloseMessageTooBig},
	} {
		c := a.raw("")
		if err := c.ws.WriteMessage(bad.kind, []byte(bad.data)); err != nil {
			t.Fatal(err)
		}
		if code := c.closed(); code != bad.code {
			t.Errorf("%s: closed with %d, want %d", bad.name, code, bad.code)
		}
	}
	longest := strings.Repeat("x", 8<<10)
	c := a.raw("")
	c.send("") // ignored
	c.send(longest)
	c.want(longest)
	bystander.want(longest)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"POD_NAME": "pod <1>"}).waitReady()
	if status, body := a.get("/"); status != 200 || !strings.Contains(body, "Chatting on") || !strings.Contains(body, "pod &lt;1&gt;") {
		t.Errorf("/: %d %.200s", status, body)
	}
	if status, body := a.get("/ws"); status != http.StatusBadRequest || !strings.Contains(body, "websocket") {
		t.Errorf("/ws without an upgrade: %d %q", status, body)
	}
	if status, body := a.get("/ws?last=x"); status != http.StatusBadRequest || !strings.Contains(body, "last") {
		t.Errorf("/ws?last=x: %d %q", status, body)
	}
	if status, _ := a.get("/nothing/here"); status != http.StatusNotFound {
		t.Errorf("unknown path: %d", status)
	}
	if status, _ := a.get("/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
}

// A pod has a handful of connections to Kafka, however many clients it has.
func TestConnectionsToKafkaAreConstant(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	proxy := kafkatest.NewProxy(t, brokers)
	a := startPod(t, map[string]string{"KAFKA_BROKER": proxy.Addr(), "TOPIC": kafkatest.Topic(t, brokers)}).waitReady()
	first := a.raw("")
	first.send("warm up")
	first.want("warm up")
	before := proxy.Conns()
	for i := range 100 {
		c := a.raw("")
		text := fmt.Sprint("client ", i)
		c.send(text)
		c.want(text)
	}
	if after := proxy.Conns(); after > before+8 { // some parts of the pod may connect a little later
		t.Errorf("%d connections with one client, %d with 101", before, after)
	}
}
