// Package history decides where a client starts in a pod's log, and what it is told about it: a
// new client with the newest messages, one that comes back, from whichever pod, directly after
// the last message that it has seen.
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
	"kafkachat/internal/kafka"
)

// maxLast is the most messages that a client may ask for when it comes.
const maxLast = 10000

// patience is how long a client's welcome waits for what it depends on: the log to be loaded, or
// a record that other pods have read already. After that the client is welcomed as if it
// continued, and told of a gap or a reset when it comes out.
const patience = time.Second

// A Request is what a client asks for in its URL.
type Request struct {
	after   *chat.Position // nil: it names none
	problem string         // with what it named, for a person
	last    int
}

// Parse reads ?last=N and ?after=POSITION.
func Parse(query url.Values) (Request, error) {
	var r Request
	if v := query.Get("last"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return Request{}, fmt.Errorf("last=%.40q: valid is a whole number from 0 on", v)
		}
		r.last = min(n, maxLast)
	}
	if v := query.Get("after"); v != "" {
		position, err := chat.ParsePosition(v)
		if err != nil {
			r.problem = err.Error()
		} else {
			r.after = &position
		}
	}
	return r, nil
}

// Source is what decisions are made from.
type Source struct {
	Tail *Tail
	Ends *kafka.Ends
	// Welcome returns the parts of the welcome that do not depend on the client.
	Welcome func() chat.Welcome
	// Outcome is told, for each client that named a position, what followed: resumed, gap or reset.
	Outcome func(string)
}

// A Client is one that comes. Its methods are used by one goroutine at a time.
type Client struct {
	Source
	request  Request
	came     time.Time
	log      *framelog.Log // when it came; nil if it was not loaded
	newest   int64         // where the messages that it asked for began then
	welcomed bool
}

// Arrive takes note of a client that comes. It is called before the client's handshake is
// answered, so that the client gets whatever is said after that, by itself above all.
func (s Source) Arrive(r Request) *Client {
	c := &Client{Source: s, request: r, came: time.Now()}
	if log, loaded := s.Tail.Log(); loaded {
		c.log, c.newest = log, log.Newest(r.last)
	}
	return c
}

// Raw places a client without a subprotocol: it gets the newest messages that it asked for, and
// no events.
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

func (s Source) loaded(log *framelog.Log) bool {
	current, loaded := s.Tail.Log()
	return loaded && current == log
}

// Chat places a chat.v1 client.
func (c *Client) Chat(log *framelog.Log) (sockets.Placement, bool) {
	if !c.loaded(log) {
		return c.wait()
	}
	start, end := log.Bounds()
	after := c.request.after
	if after == nil {
		return c.start(log, end, c.fresh(log), chat.Fresh), true
	}
	switch log.Locate(framelog.Entry(*after)) {
	case framelog.Here:
		return c.start(log, end, max(after.Offset+1, start), ""), true
	case framelog.Before:
		return c.start(log, end, start, chat.Gap), true
	case framelog.Elsewhere:
		return c.start(log, end, start, chat.Reset), true
	}
	// This pod has not read so far. That is ordinary if the client comes from a pod that was a
	// little ahead; if the topic itself does not go so far, the client knew another one.
	if last := c.Ends.Last(); last.Asked.After(c.came) && last.Newest <= after.Offset {
		return c.start(log, end, start, chat.Reset), true
	}
	c.Ends.Wake()
	return c.wait()
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
	return sockets.Placement{Hello: c.welcome(reason, position)}, false
}

// start places the client at offset from. It is live when it has what was there at offset end.
func (c *Client) start(log *framelog.Log, end, from int64, reason string) sockets.Placement {
	if c.request.after != nil {
		c.Outcome(cmp.Or(reason, "resumed"))
	}
	p := sockets.Placement{From: from, Mark: end}
	p.MarkFrames = sockets.AppendText(nil, chat.Live(position(log, end)))
	switch {
	case !c.welcomed:
		p.Hello = c.welcome(reason, position(log, from))
	case reason == chat.Gap || reason == chat.Reset:
		p.Hello = sockets.AppendText(nil, chat.Event(reason, nil))
	}
	return p
}

func (c *Client) welcome(reason, position string) []byte {
	c.welcomed = true
	w := c.Welcome()
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
	e, ok := log.Preceding(offset)
	if !ok || e.Sum == 0 && e.Offset >= 0 {
		return "" // a gap is there
	}
	return chat.Position(e).String()
}
