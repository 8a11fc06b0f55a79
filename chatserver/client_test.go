package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
)

// A testClient is a websocket of the test's.
type testClient struct {
	t  *testing.T
	ws *websocket.Conn
}

// tryDial is a handshake, which may be refused.
func (p *testPod) tryDial(query, protocol string) (*testClient, *http.Response, error) {
	dialer := websocket.Dialer{Subprotocols: []string{protocol}, HandshakeTimeout: patience}
	ws, response, err := dialer.Dial("ws://"+p.host()+"/ws"+query, nil)
	if err == nil {
		p.t.Cleanup(func() { ws.Close() })
	}
	return &testClient{p.t, ws}, response, err
}

func (p *testPod) dial(query, protocol string) *testClient {
	p.t.Helper()
	c, response, err := p.tryDial(query, protocol)
	if err != nil {
		p.t.Fatalf("dialing %s: %v, %+v", query, err, response)
	}
	return c
}

func (p *testPod) raw(query string) *testClient  { p.t.Helper(); return p.dial(query, "") }
func (p *testPod) chat(query string) *testClient { p.t.Helper(); return p.dial(query, chat.Protocol) }

func (c *testClient) send(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("sending %.50q: %v", text, err)
	}
}

func (c *testClient) read() string {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return string(b)
}

func (c *testClient) want(text string) {
	c.t.Helper()
	if got := c.read(); got != text {
		c.t.Fatalf("got %.80q, want %.80q", got, text)
	}
}

// echo says something and waits until it comes back.
func (c *testClient) echo(text string) {
	c.t.Helper()
	c.send(text)
	c.want(text)
}

// tryEcho says something and waits until it comes back, whatever others say meanwhile.
func (c *testClient) tryEcho(text string) error {
	c.ws.SetReadDeadline(time.Now().Add(patience))
	err := c.ws.WriteMessage(websocket.TextMessage, []byte(text))
	for heard := []byte(nil); err == nil && string(heard) != text; {
		_, heard, err = c.ws.ReadMessage()
	}
	return err
}

// closed waits for the close frame and returns its code, or CloseAbnormalClosure.
func (c *testClient) closed() int {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		_, _, err := c.ws.ReadMessage()
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
			return closed.Code
		}
		if err != nil {
			return websocket.CloseAbnormalClosure
		}
	}
}

// An event is any event of chat.v1.
type event struct {
	Type, Pod, Where, Position, Reason, Detail, ID, Name, Text, Kafka string
	Resumed, Standalone                                               bool
	Offset, Partitions                                                int64
	Millis                                                            float64 `json:"ms"`
	Within                                                            int64   `json:"within_ms"`
}

func (c *testClient) event() event {
	c.t.Helper()
	var e event
	if text := c.read(); json.Unmarshal([]byte(text), &e) != nil {
		c.t.Fatalf("not an event: %q", text)
	}
	return e
}

// until returns the next event of these types; other types but status and pods are faults.
func (c *testClient) until(types ...string) event {
	c.t.Helper()
	for {
		e := c.event()
		if slices.Contains(types, e.Type) {
			return e
		}
		if e.Type != "status" && e.Type != "pods" {
			c.t.Fatalf("got %+v while waiting for %q", e, types)
		}
	}
}

// arrive reads the welcome and what follows up to live: the texts of messages, with spaces.
func (c *testClient) arrive() (welcome event, texts string) {
	c.t.Helper()
	if welcome = c.event(); welcome.Type != "welcome" {
		c.t.Fatalf("the first event is %+v", welcome)
	}
	for e := c.until("message", "gap", "reset", "live"); e.Type != "live"; e = c.until("message", "gap", "reset", "live") {
		if e.Type != "message" { // Kafka has answered late: the welcome did not say it
			welcome.Resumed, welcome.Reason = false, e.Type
		}
		texts += e.Text + " "
	}
	return welcome, strings.TrimSpace(texts)
}

func (c *testClient) say(id, text string) {
	c.t.Helper()
	b, _ := json.Marshal(map[string]string{"type": "message", "id": id, "name": "Ann", "text": text})
	c.send(string(b))
}

// publish says something and returns the message and the ack that came of it, in whatever order.
func (c *testClient) publish(id, text string) (message, ack event) {
	c.t.Helper()
	c.say(id, text)
	for message.ID != id || ack.ID != id {
		if e := c.until("message", "ack"); e.Type == "message" {
			message = e
		} else {
			ack = e
		}
	}
	return message, ack
}

func longID(word string) string { return word + "-0123456789abcdef" }
