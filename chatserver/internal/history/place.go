package history

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/sockets"
)

const (
	// maxLast is the most messages that a client may ask for when it comes.
	maxLast = 10000
	// afterLoss is how many messages a client starts with that does not continue: the oldest one in
	// the log would be the next to be evicted.
	afterLoss = 100
	// patience is how long a client's welcome waits for what it depends on: the log to be loaded, or
	// a record that other pods have read already. After that the client is welcomed as if it
	// continued, and told of a gap or a reset when it comes out.
	patience = time.Second
	// oldPatience is how long a client waits for Kafka to say whether an old position is of this topic.
	oldPatience = recordTimeout
)

// A Request is what a client asks for in its URL.
type Request struct {
	after   *framelog.Position // everything after it; nil: it names none
	before  *framelog.Position // only what is older, with chat.v1; nil: it names none
	problem string             // with after, for a person
	last    int
}

// Parse reads ?last=N, ?after=POSITION and ?before=POSITION.
func Parse(query url.Values) (Request, error) {
	var r Request
	if v := query.Get("last"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return Request{}, fmt.Errorf("last=%.40q: valid is a whole number from 0 on", v)
		}
		r.last = min(n, maxLast)
	}
	if v := query.Get("before"); v != "" {
		position, err := framelog.ParsePosition(v)
		if err != nil {
			return Request{}, fmt.Errorf("before: %w", err)
		}
		r.before = &position
		return r, nil
	}
	if v := query.Get("after"); v != "" {
		position, err := framelog.ParsePosition(v)
		if err != nil {
			r.problem = err.Error()
		} else {
			r.after = &position
		}
	}
	return r, nil
}

// A Client is one that comes. Its methods are used by one goroutine at a time.
type Client struct {
	history  *History
	request  Request
	welcome  func() chat.Welcome // what does not depend on the client's place
	came     time.Time
	log      *framelog.Log // when it came; nil if it was not loaded
	newest   int64         // where the messages that it asked for began then
	welcomed bool
}

// Arrive takes note of a client that comes. It is called before the client's handshake is answered,
// so that the client gets whatever is said after that, by itself above all.
func (h *History) Arrive(r Request, welcome func() chat.Welcome) *Client {
	c := &Client{history: h, request: r, welcome: welcome, came: time.Now()}
	if log, loaded := h.Frames(); loaded {
		c.log, c.newest = log, log.Newest(r.last)
	}
	return c
}

// Raw places a client without a subprotocol: it gets the newest messages that it asked for, and no
// events.
func (c *Client) Raw(log *framelog.Log) (sockets.Placement, bool) {
	if !c.loaded(log) {
		return sockets.Placement{}, false
	}
	return sockets.Placement{From: c.fresh(log)}, true
}

// fresh returns where a client starts that names no position.
func (c *Client) fresh(log *framelog.Log) int64 {
	if c.log != log {
		return log.Newest(c.request.last)
	}
	start, _ := log.Bounds()
	return max(c.newest, start)
}

func (c *Client) loaded(log *framelog.Log) bool {
	current, loaded := c.history.Frames()
	return loaded && current == log
}

// Chat places a chat.v1 client.
func (c *Client) Chat(log *framelog.Log) (sockets.Placement, bool) {
	start, end := log.Bounds()
	after := c.request.after
	switch {
	case !c.loaded(log):
		return c.wait()
	case c.request.before != nil:
		return c.older(log, *c.request.before), true
	case after == nil:
		return c.start(log, end, c.fresh(log), chat.Fresh), true
	}
	next := c.history.Next()
	switch log.Locate(*after) {
	case framelog.Here:
		return c.start(log, end, max(after.Offset+1, start), ""), true
	case framelog.Elsewhere:
		return c.lost(log, end, chat.Reset), true
	case framelog.InGap:
		return c.lost(log, end, chat.Gap), true
	case framelog.Before:
		switch belongs, known := c.history.belongs(*after); {
		case known && !belongs:
			return c.lost(log, end, chat.Reset), true
		case known, time.Since(c.came) >= oldPatience:
			return c.lost(log, end, chat.Gap), true
		}
		return sockets.Placement{}, false
	}
	// This pod has not read so far. That is ordinary if the client comes from a pod that was a
	// little ahead; if the topic itself does not go so far, the client knew another one.
	// A pod that has read past the position, and shows nothing there, knows another topic, too.
	switch last := c.history.Ends.Last(); {
	case next > after.Offset, last.Asked.After(c.came) && last.Newest <= after.Offset:
		return c.lost(log, end, chat.Reset), true
	case !last.Asked.After(c.came):
		c.history.Ends.Wake()
	}
	return c.wait()
}

// lost places a client that cannot continue.
func (c *Client) lost(log *framelog.Log, end int64, reason string) sockets.Placement {
	return c.start(log, end, log.Newest(afterLoss), reason)
}

// wait leaves the client where it is, after a welcome once it has waited for long.
func (c *Client) wait() (sockets.Placement, bool) {
	if c.welcomed || time.Since(c.came) < patience {
		return sockets.Placement{}, false
	}
	reason, position := chat.Fresh, ""
	if c.request.after != nil {
		reason, position = "", c.request.after.String()
	}
	return sockets.Placement{Hello: c.greet(reason, position)}, false
}

// start places the client at offset from. It is live when it has what was there at offset end.
func (c *Client) start(log *framelog.Log, end, from int64, reason string) sockets.Placement {
	if c.request.after != nil {
		c.history.Placed(cmp.Or(reason, "resumed"))
	}
	p := sockets.Placement{From: from, Mark: end, MarkFrames: liveAt(log, end)}
	switch {
	case !c.welcomed:
		p.Hello = c.greet(reason, position(log, from))
	case reason == chat.Gap || reason == chat.Reset:
		p.Hello = sockets.AppendText(nil, chat.Event(reason, nil))
	}
	return p
}

// older places a client that wants messages before a position, and nothing else.
func (c *Client) older(log *framelog.Log, before framelog.Position) sockets.Placement {
	wanted, reason := cmp.Or(c.request.last, afterLoss), ""
	from, found := log.NewestBefore(wanted, before.Offset)
	end := max(from, before.Offset)
	if place := log.Locate(before); place == framelog.Ahead || place == framelog.Elsewhere {
		reason, from = chat.Reset, end
	}
	p := sockets.Placement{From: from, Mark: end, MarkFrames: liveAt(log, end), Last: true}
	if !c.welcomed {
		p.Hello = c.greet(reason, position(log, from))
	}
	if reason == "" && found < wanted && from > 0 {
		p.Hello = append(p.Hello, sockets.AppendText(nil, chat.Event(chat.Gap, nil))...)
	}
	return p
}

func liveAt(log *framelog.Log, offset int64) []byte {
	return sockets.AppendText(nil, chat.Live(position(log, offset)))
}

// greet returns the frame of the welcome.
func (c *Client) greet(reason, position string) []byte {
	c.welcomed = true
	w := c.welcome()
	w.Reason, w.Resumed, w.Position = reason, reason == "", position
	switch reason {
	case chat.Fresh:
		w.Detail = c.request.problem
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
