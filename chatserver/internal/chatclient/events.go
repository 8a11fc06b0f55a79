package chatclient

import (
	"encoding/json"
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
	Within   int64  `json:"within_ms"`
}

func (c *Client) hear(f frame) {
	var e event
	if json.Unmarshal(f.data, &e) != nil {
		return // not ours to understand
	}
	o := Event{At: f.at, ID: e.ID, Offset: e.Offset, Position: e.Position, Pod: e.Pod, Reason: e.Reason}
	switch e.Type {
	case "welcome":
		c.line.welcomed()
		o.Kind = Welcomed
		c.observe(o)
		c.kafkaUp = e.Kafka == "up"
		if !e.Resumed {
			c.lost(e.Reason != "gap")
		}
	case "message":
		o.Kind = Message
		c.observe(o)
		c.position, c.lastOffset = e.Position, e.Offset
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
		c.remove(e.ID)
	case "gap":
		o.Kind = Gap
		c.observe(o)
		c.lost(false)
	case "reset":
		o.Kind = Reset
		c.observe(o)
		c.lost(true)
	case "status":
		c.kafkaUp = e.Kafka == "up"
	case "reconnect":
		o.Kind = SentAway
		c.observe(o)
		c.line.leave(time.Duration(e.Within) * time.Millisecond)
	}
}

// lost: the history that would have shown what became of sent messages is lost, so the person is
// asked about each.
func (c *Client) lost(position bool) {
	if position {
		c.position, c.lastOffset = "", -1
	}
	var kept []*entry
	for _, e := range c.outbox {
		if e.state == sent {
			c.observe(Event{Kind: Unsure, ID: e.id})
			if !c.opt.Again {
				continue
			}
			e.state = waiting
		}
		kept = append(kept, e)
	}
	c.outbox = kept
	if c.line.ready() {
		c.sendAll(waiting)
	}
}

func (c *Client) caughtUp(position string) {
	if position != "" {
		c.position = position
	}
	c.line.caughtUp()
	// Stored before the connection broke, and not in what was replayed: it stands in a gap.
	c.outbox = slices.DeleteFunc(c.outbox, func(e *entry) bool { return e.state == stored })
	// What was sent and is still here is not in the replay, so it did not arrive.
	c.sendAll(sent, waiting)
}

func (c *Client) acked(id string, offset int64) {
	for _, e := range c.outbox {
		if e.id == id {
			e.state = stored
		}
	}
	if offset <= c.lastOffset {
		c.remove(id) // its event would have come by now
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
	e.state = sent
	c.lastSent = time.Now()
	c.observe(Event{Kind: Sent, ID: e.id})
	message, err := json.Marshal(map[string]any{"type": "message", "id": e.id, "name": c.opt.Name, "text": e.text, "again": e.again})
	if err != nil {
		panic("chatclient: strings and a bool that are no JSON: " + err.Error())
	}
	e.again = true
	c.line.write(message)
}

// lookForDeath connects anew if what was sent waits for too long though Kafka is up.
func (c *Client) lookForDeath() {
	if c.line.phase != live || !c.kafkaUp || time.Since(c.lastSent) < overdue {
		return
	}
	for _, e := range c.outbox {
		if e.state == sent {
			c.line.open()
			return
		}
	}
}
