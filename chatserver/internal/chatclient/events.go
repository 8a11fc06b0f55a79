package chatclient

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// event is any event of the protocol. Unknown fields and types are ignored.
type event struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	Offset   int64  `json:"offset"`
	Position string `json:"position"`
	Pod      string `json:"pod"`
	Resumed  bool   `json:"resumed"`
	Reason   string `json:"reason"`
	Kafka    string `json:"kafka"`
	Where    string `json:"where"`
	Within   int64  `json:"within_ms"`
}

func (c *Client) hear(f frame) {
	var e event
	if json.Unmarshal(f.data, &e) != nil {
		return // not ours to understand
	}
	c.line.heard = f.at
	o := Event{At: f.at, ID: e.ID, Offset: e.Offset, Position: e.Position, Pod: e.Pod, Reason: e.Reason}
	switch e.Type {
	case "welcome":
		c.line.welcomed()
		o.Kind = Welcomed
		c.observe(o)
		c.kafkaUp, c.pings = e.Kafka == "up", e.Where != ""
		switch {
		case e.Resumed:
		case c.position == "", e.Reason == "gap":
			c.doubt()
		default:
			c.startAnew()
		}
	case "message":
		o.Kind = Message
		c.observe(o)
		c.position, c.lastOffset = e.Position, e.Offset
		c.settle(e.Offset)
		c.remove(e.ID) // one's own message event is an ack
		c.mu.Lock()
		c.status.LastID = e.ID
		c.mu.Unlock()
	case "live":
		o.Kind = Live
		c.observe(o)
		c.caughtUp(e.Position)
	case "ack":
		o.Kind = Acked
		c.observe(o)
		c.acked(e.ID, e.Offset)
	case "reject":
		o.Kind = Rejected
		c.observe(o)
		c.refused(e.ID)
	case "gap":
		o.Kind = Gap
		c.observe(o)
		c.doubt()
	case "reset":
		o.Kind = Reset
		c.observe(o)
		c.startAnew()
	case "status":
		c.kafkaUp = e.Kafka == "up"
	case "reconnect":
		o.Kind = SentAway
		c.observe(o)
		c.line.leave(time.Duration(e.Within) * time.Millisecond)
	}
	c.line.patient()
}

// startAnew: what follows is another log.
func (c *Client) startAnew() {
	c.settle(math.MaxInt64)
	c.position, c.lastOffset = "", -1
	c.doubt()
}

// doubt: the history that would have shown what became of sent messages is lost, so the person is
// asked about each.
func (c *Client) doubt() {
	for _, e := range c.outbox {
		if e.state != sent {
			continue
		}
		c.observe(Event{Kind: Unsure, ID: e.id})
		e.state = unsure
		if c.opt.Again {
			e.state = waiting
		}
	}
	if c.line.ready() {
		c.sendAll(waiting)
	}
}

// settle removes what is stored before an offset, where a gap was: its events will not come.
func (c *Client) settle(before int64) {
	c.outbox = slices.DeleteFunc(c.outbox, func(e *entry) bool { return e.state == stored && e.offset < before })
}

func (c *Client) caughtUp(position string) {
	if position != "" {
		c.position = position
	}
	c.line.caughtUp()
	// What was sent and is still here is not in the replay, so it did not arrive.
	c.sendAll(sent, waiting)
}

func (c *Client) acked(id string, offset int64) {
	for _, e := range c.outbox {
		if e.id == id {
			e.state, e.offset = stored, offset
		}
	}
	c.settle(c.lastOffset + 1)
}

func (c *Client) refused(id string) {
	if c.opt.Again {
		c.remove(id)
	}
	for _, e := range c.outbox {
		if e.id == id {
			e.state = refused
		}
	}
}

func (c *Client) remove(id string) {
	c.outbox = slices.DeleteFunc(c.outbox, func(e *entry) bool { return e.id == id })
}

func (c *Client) sendAll(states ...state) {
	for _, e := range c.outbox {
		if slices.Contains(states, e.state) {
			c.send(e)
		}
	}
}

func (c *Client) send(e *entry) {
	e.state, e.sentAt = sent, time.Now()
	c.observe(Event{Kind: Sent, ID: e.id})
	message, err := json.Marshal(map[string]any{"type": "message", "id": e.id, "name": c.opt.Name, "text": e.text, "again": e.again})
	if err != nil {
		panic("chatclient: strings and a bool that are no JSON: " + err.Error())
	}
	e.again = true
	c.line.write(message)
}

// lookForDeath connects anew if what was sent waits for too long though Kafka is up, or if a pod
// that pings was not heard for too long.
func (c *Client) lookForDeath() {
	late := c.kafkaUp && slices.ContainsFunc(c.outbox, func(e *entry) bool { return e.state == sent && time.Since(e.sentAt) > overdue })
	silent := c.pings && time.Since(c.line.heard) > silence
	if c.line.phase == live && (late || silent) {
		c.line.open()
	}
}
