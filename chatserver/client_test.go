package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// closed waits for the close frame and returns its code, or CloseAbnormalClosure.
func (c *testClient) closed() int {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(patience))
	var err error
	for err == nil {
		_, _, err = c.ws.ReadMessage()
	}
	if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
		return closed.Code
	}
	return websocket.CloseAbnormalClosure
}

// An event is any event of chat.v1.
type event struct {
	Type, Pod, Where, Topic, Position, Reason, Detail, ID, Name, Text, Kafka, Time string
	Resumed, Standalone, Placeholder                                               bool
	Offset, Missing                                                                int64
	Millis                                                                         float64 `json:"ms"`
	Within                                                                         int64   `json:"within_ms"`
	Partitions                                                                     int32
}

func (c *testClient) event() event {
	c.t.Helper()
	var e event
	if text := c.read(); json.Unmarshal([]byte(text), &e) != nil {
		c.t.Fatalf("not an event: %q", text)
	}
	return e
}

// until returns the next event of a type; other types but those of skip are faults.
func (c *testClient) until(kind string, skip ...string) event {
	c.t.Helper()
	for {
		e := c.event()
		if e.Type == kind {
			return e
		}
		if !strings.Contains("status pods "+strings.Join(skip, " "), e.Type) {
			c.t.Fatalf("got %+v while waiting for %q", e, kind)
		}
	}
}

// arrive reads the welcome and what follows up to live: the texts of messages, with spaces.
func (c *testClient) arrive() (welcome event, texts string) {
	c.t.Helper()
	if welcome = c.event(); welcome.Type != "welcome" {
		c.t.Fatalf("the first event is %+v", welcome)
	}
	for {
		switch e := c.event(); e.Type {
		case "live":
			return welcome, strings.TrimSpace(texts)
		case "message":
			texts += e.Text + " "
		case "status", "pods":
		default:
			c.t.Fatalf("got %+v before live", e)
		}
	}
}

func (c *testClient) say(id, text string) {
	c.t.Helper()
	b, err := json.Marshal(map[string]string{"type": "message", "id": id, "name": "Ann", "text": text})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(b))
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

func longID(word string) string { return fmt.Sprintf("%s-0123456789abcdef", word) }
