package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

const (
	// maxLast bounds the N of ?last=N.
	maxLast = 10000
	// afterLoss is the number of messages for a client that cannot continue at its position. The
	// oldest entry of the log would be a bad start: it is the next to be evicted.
	afterLoss = 100
	// patience bounds how long a welcome waits for the loaded log, for a record that other pods
	// have read already, or for an answer of Kafka. After that the client gets a welcome as if it
	// continued. If the pod finds a gap or a reset, the client gets that event later.
	patience = time.Second
	// oldPatience bounds the wait for Kafka's answer whether an old position belongs to this topic.
	oldPatience = 3 * time.Second
	oldAtMost   = 4096 // most old records whose positions are kept
)

// A client is a client that connects: what it asked for, and what it was told. One goroutine at a
// time uses a client.
type client struct {
	*History
	// From the query.
	after   *framelog.Position // the client wants all after it; nil: none named
	before  *framelog.Position // the client wants only older messages, with chat.v1; nil: none named
	problem string             // of the parameter after, in words for a person
	wanted  int                // messages

	welcome  func() chat.Welcome // returns the fields that do not depend on the client's place
	came     time.Time
	cameTo   *framelog.Log // the log at that time; nil if it was not loaded
	newest   int64         // the offset at which the wanted messages began at that time
	welcomed bool
}

// Place decides where a client with ?last=N, ?after=POSITION or ?before=POSITION starts: asChat
// with chat.v1, asRaw without. The caller calls Place before it answers the handshake, so that the
// client gets all later messages, above all its own. Welcome returns the facts about the pod. The
// error means that the query is not valid.
func (h *History) Place(query url.Values, welcome func() chat.Welcome) (asChat, asRaw sockets.Place, err error) {
	c := &client{History: h, welcome: welcome, came: time.Now()}
	if v := query.Get("last"); v != "" {
		if c.wanted, err = strconv.Atoi(v); err != nil || c.wanted < 0 {
			return nil, nil, fmt.Errorf("last=%.40q: valid is a whole number from 0 on", v)
		}
		c.wanted = min(c.wanted, maxLast)
	}
	if v := query.Get("before"); v != "" {
		position, err := framelog.ParsePosition(v)
		if err != nil {
			return nil, nil, fmt.Errorf("before: %w", err)
		}
		c.before = &position
	} else if v := query.Get("after"); v != "" {
		if position, err := framelog.ParsePosition(v); err != nil {
			c.problem = err.Error()
		} else {
			c.after = &position
		}
	}
	if log, loaded := h.Frames(); loaded {
		c.cameTo, c.newest = log, log.Newest(c.wanted)
	}
	return c.asChat, c.asRaw, nil
}

// asRaw places a client without a subprotocol. The client gets the newest messages that it asked
// for, and no events.
func (c *client) asRaw(log *framelog.Log) (sockets.Placement, bool) {
	loaded := c.loaded(log) // first: the log may grow, and be loaded, before fresh
	return sockets.Placement{From: c.fresh(log)}, loaded
}

// fresh returns the start of a client that names no position.
func (c *client) fresh(log *framelog.Log) int64 {
	if c.cameTo != log {
		return log.Newest(c.wanted)
	}
	start, _ := log.Bounds()
	return max(c.newest, start)
}

func (c *client) loaded(log *framelog.Log) bool {
	current, loaded := c.Frames()
	return loaded && current == log
}

// asChat places a chat.v1 client.
func (c *client) asChat(log *framelog.Log) (sockets.Placement, bool) {
	loaded := c.loaded(log) // first, as in asRaw
	start, end := log.Bounds()
	switch {
	case !loaded:
		return c.wait(), false
	case c.before != nil:
		return c.older(log), true
	case c.after == nil:
		return c.start(log, c.fresh(log), end, chat.Fresh), true
	}
	reason, known := c.missing(log)
	switch {
	case !known:
		return c.wait(), false
	case reason == "":
		return c.start(log, max(c.after.Offset+1, start), end, ""), true
	}
	return c.start(log, log.Newest(afterLoss), end, reason), true
}

// missing returns why the log does not continue the client's position: chat.Gap, or chat.Reset if
// the position belongs to another topic. The reason is "" if the log continues the position. Known
// is false while the client must wait for the answer.
func (c *client) missing(log *framelog.Log) (reason string, known bool) {
	after := *c.after
	next, _ := c.Reading() // first: the log may grow before Locate
	switch log.Locate(after) {
	case framelog.Here:
		return "", true
	case framelog.Elsewhere:
		return chat.Reset, true
	case framelog.InGap:
		return chat.Gap, true
	case framelog.Before:
		belongs, known := c.belongs(after)
		if !belongs {
			return chat.Reset, true
		}
		return chat.Gap, known || time.Since(c.came) >= oldPatience
	}
	// The log ends before the position. That is normal if the client comes from a pod that was a
	// little ahead. But the position belongs to another topic if the topic itself ends before the
	// position, or if this pod has read past the position and has no entry there.
	end := c.ends.Last()
	asked := end.Asked.After(c.came)
	if !asked {
		c.ends.Wake()
	}
	return chat.Reset, next > after.Offset || asked && end.Offset <= after.Offset
}

// wait leaves the client without a place. A client that has waited for patience gets its welcome.
func (c *client) wait() (p sockets.Placement) {
	switch {
	case c.welcomed || time.Since(c.came) < patience:
	case c.after != nil:
		p.Hello = c.greet("", c.after.String())
	default:
		p.Hello = c.greet(chat.Fresh, "")
	}
	return p
}

// start places the client at offset from. The client is live when it has all entries before offset
// end.
func (c *client) start(log *framelog.Log, from, end int64, reason string) sockets.Placement {
	if c.after != nil {
		c.mu.Lock()
		c.stats.Resumes[cmp.Or(reason, "resumed")]++
		c.mu.Unlock()
	}
	live := sockets.AppendText(nil, chat.Event("live", map[string]string{"position": position(log, end)}))
	p := sockets.Placement{From: from, Mark: end, MarkFrames: live, Last: c.before != nil}
	switch {
	case !c.welcomed:
		p.Hello = c.greet(reason, position(log, from))
	case reason == chat.Gap || reason == chat.Reset:
		p.Hello = sockets.AppendText(nil, chat.Event(reason, nil))
	}
	return p
}

// older places a client that wants only messages before a position.
func (c *client) older(log *framelog.Log) sockets.Placement {
	wanted := cmp.Or(c.wanted, afterLoss)
	from, found := log.NewestBefore(wanted, c.before.Offset)
	end := max(from, c.before.Offset)
	if place := log.Locate(*c.before); place == framelog.Ahead || place == framelog.Elsewhere {
		return c.start(log, end, end, chat.Reset)
	}
	p := c.start(log, from, end, "")
	if found < wanted && from > 0 {
		p.Hello = append(p.Hello, sockets.AppendText(nil, chat.Event(chat.Gap, nil))...)
	}
	return p
}

// greet returns the frame of the welcome.
func (c *client) greet(reason, position string) []byte {
	c.welcomed = true
	w := c.welcome()
	w.Reason, w.Resumed, w.Position = reason, reason == "", position
	switch reason {
	case chat.Fresh:
		w.Detail = c.problem
	case chat.Gap:
		w.Detail = "the position is older than what this pod still has"
	case chat.Reset:
		w.Detail = "the position is of another topic, or of this one before it was made anew"
	}
	return sockets.AppendText(nil, chat.Event("welcome", w))
}

// position returns the position of a client that starts at offset, "" if it is not known.
func position(log *framelog.Log, offset int64) string {
	p, ok := log.Preceding(offset)
	if !ok {
		return ""
	}
	return p.String()
}

// belongs returns whether p, which is older than the log, belongs to this topic. Only Kafka knows:
// the client may come from another topic. A record that retention has deleted counts as a record of
// this topic. While the answer is not known, Run asks Kafka for it.
func (h *History) belongs(p framelog.Position) (belongs, known bool) {
	if p.Offset < 0 {
		return true, true // the client has seen nothing
	}
	h.mu.Lock()
	record, known := h.old[p.Offset]
	h.mu.Unlock()
	if !known {
		select {
		case h.ask <- p.Offset:
		default: // the client asks again
		}
	}
	return record == nil || *record == p, known
}

// Run asks Kafka where the topic ends, and reads the old records that clients wait for, one at a
// time, until ctx ends.
func (h *History) Run(ctx context.Context) {
	var ends sync.WaitGroup
	ends.Go(func() { h.ends.Run(ctx) })
	defer ends.Wait()
	for {
		select {
		case offset := <-h.ask:
			h.learn(ctx, offset)
		case <-ctx.Done():
			return
		}
	}
}

// learn reads the record at an offset, and keeps its position in h.old.
func (h *History) learn(ctx context.Context, offset int64) {
	ctx, cancel := context.WithTimeout(ctx, oldPatience)
	defer cancel()
	h.mu.Lock()
	old := h.old // if the topic is made anew meanwhile, open replaces the map
	h.mu.Unlock()
	var position *framelog.Position
	r, err := h.record(ctx, offset)
	switch {
	case err == nil:
		p := positionOf(r, chat.Decode(r))
		position = &p
	case !errors.Is(err, sarama.ErrOffsetOutOfRange):
		h.Log.Debug("cannot read an old record", "offset", offset, "err", err)
		return
	}
	defer h.ends.Wake() // the answer is reported, and the report wakes the waiting clients
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(old) >= oldAtMost {
		clear(old)
	}
	old[offset] = position
}

// readRecord reads the record at an offset, or the next one if there is none. The error is
// sarama.ErrOffsetOutOfRange if the topic begins later.
func (h *History) readRecord(ctx context.Context, offset int64) (*sarama.ConsumerMessage, error) {
	session, err := h.Cluster.NewSession(ctx, h.ClientID("old"), h.Topic)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	if _, err := session.ConsumePartition(h.Topic, 0, offset); err != nil {
		return nil, err
	}
	if r, ok := <-session.Messages(); ok {
		return r, nil
	}
	return nil, session.Err()
}
