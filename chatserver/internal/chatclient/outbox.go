package chatclient

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"time"
)

// An entry is a message in the outbox.
type entry struct {
	id, text string
	state    state
	again    bool      // the message was sent before
	sentAt   time.Time // the last time
	offset   int64     // of the stored record
}

type state uint8

const (
	waiting state = iota // never given to a socket
	sent                 // given to a socket: it may be in the topic
	unsure               // was sent, but the history that would show its fate was lost; the person decides
	stored               // acked; its message event is on the way
	refused              // will never appear
)

// event is any event of the protocol. Unknown fields and types are ignored.
type event struct {
	Type     Kind   `json:"type"`
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

func (c *Client) hear(frame []byte) {
	var e event
	if json.Unmarshal(frame, &e) != nil {
		return // not an event of the protocol
	}
	c.heard = time.Now()
	if e.Kafka != "" {
		c.kafkaUp = e.Kafka == "up"
	}
	switch e.Type {
	case Welcomed, Message, Live, Acked, Rejected, Gap, Reset, SentAway:
		c.observe(Event{Kind: e.Type, ID: e.ID, Offset: e.Offset, Pod: e.Pod, Reason: e.Reason})
		c.follow(e)
	}
	// Each frame until "live" gives the pod more time; while it waits for Kafka, up to the next status.
	if c.phase == replaying && !c.asked {
		wait := patience
		if !c.kafkaUp {
			wait = silence
		}
		c.timer.Reset(wait)
	}
}

func (c *Client) follow(e event) {
	switch e.Type {
	case Welcomed:
		c.phase, c.pings = replaying, e.Where != ""
		switch {
		case e.Resumed:
		case c.position == "", e.Reason == "gap":
			c.doubt()
		default:
			c.startAnew()
		}
	case Message:
		c.position, c.lastOffset, c.lastID = e.Position, e.Offset, e.ID
		c.settle(e.Offset)
		c.remove(e.ID) // the event of the client's own message is an ack
	case Live:
		if e.Position != "" {
			c.position = e.Position
		}
		if c.phase = live; !c.asked {
			c.timer.Stop()
		}
		// A sent message that is still in the outbox was not in the replay, so it did not arrive.
		c.sendAll(sent, waiting)
	case Acked:
		mine := c.find(e.ID)
		mine.state, mine.offset = stored, e.Offset
		c.settle(c.lastOffset + 1)
	case Rejected:
		c.find(e.ID).state = refused
		if c.opt.Again {
			c.remove(e.ID)
		}
	case Gap:
		c.doubt()
	case Reset:
		c.startAnew()
	case SentAway:
		c.asked = true
		c.openIn(time.Duration(e.Within) * time.Millisecond) // all of a pod's clients hear this at once
	}
}

// startAnew forgets the position: the next messages belong to another log.
func (c *Client) startAnew() {
	c.settle(math.MaxInt64)
	c.position, c.lastOffset = "", -1
	c.doubt()
}

// doubt asks the person about each sent message: the history that would show its fate is lost.
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
	c.sendAll(waiting)
}

// settle removes stored messages before an offset: their events were in a gap and will not come.
func (c *Client) settle(before int64) {
	c.outbox = slices.DeleteFunc(c.outbox, func(e *entry) bool { return e.state == stored && e.offset < before })
}

// find returns the message with this id, or one that is not in the outbox.
func (c *Client) find(id string) *entry {
	for _, e := range c.outbox {
		if e.id == id {
			return e
		}
	}
	return new(entry)
}

func (c *Client) remove(id string) {
	c.outbox = slices.DeleteFunc(c.outbox, func(e *entry) bool { return e.id == id })
}

func (c *Client) add(text string) {
	var id [16]byte
	for i := range id {
		id[i] = byte(c.rng.Uint32())
	}
	e := &entry{id: hex.EncodeToString(id[:]), text: text}
	c.outbox = append(c.outbox, e)
	c.observe(Event{Kind: Said, ID: e.id})
}

// sendAll sends the messages in these states, if the pod takes messages.
func (c *Client) sendAll(states ...state) {
	if c.phase != live || c.asked {
		return
	}
	for _, e := range c.outbox {
		if !slices.Contains(states, e.state) {
			continue
		}
		c.observe(Event{Kind: Sent, ID: e.id})
		c.socket.write(map[string]any{"type": "message", "id": e.id, "name": c.opt.Name, "text": e.text, "again": e.again})
		e.state, e.sentAt, e.again = sent, time.Now(), true
	}
}

// lookForDeath connects anew if a sent message waits for too long though Kafka is up, or if a pod
// that pings is silent for too long.
func (c *Client) lookForDeath() {
	late := c.kafkaUp && slices.ContainsFunc(c.outbox, func(e *entry) bool { return e.state == sent && time.Since(e.sentAt) > overdue })
	silent := c.pings && time.Since(c.heard) > silence
	if c.phase == live && (late || silent) {
		c.open()
	}
}
