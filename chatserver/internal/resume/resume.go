// Package resume decides where a client starts in a pod's log, and what it is told about it: a
// new client with the newest messages, one that comes back, from whichever pod, directly after
// the last message that it has seen.
package resume

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/probe"
	"kafkachat/chatserver/internal/record"
	"kafkachat/chatserver/internal/tail"
	"kafkachat/chatserver/internal/wsconn"
)

// maxLast is the most messages that a client may ask for when it comes.
const maxLast = 10000

// patience is how long a client's welcome waits for what it depends on: the log to be loaded, or
// a record that other pods have read already. After that the client is welcomed as if it
// continued, and told of a gap or a reset when it comes out.
const patience = time.Second

// A Request is what a client asks for in its URL.
type Request struct {
	after   *record.Position // nil: it names none
	problem string           // with what it named, for a person
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
		position, err := record.ParsePosition(v)
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
	Tail  *tail.Tail
	Probe *probe.Probe
	// Welcome returns the parts of the welcome that do not depend on the client.
	Welcome func() record.Welcome
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
func (c *Client) Raw(log *framelog.Log) (wsconn.Placement, bool) {
	if !c.loaded(log) {
		return wsconn.Placement{}, false
	}
	return wsconn.Placement{From: c.fresh(log)}, true
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
func (c *Client) Chat(log *framelog.Log) (wsconn.Placement, bool) {
	if !c.loaded(log) {
		return c.wait()
	}
	start, end := log.Bounds()
	after := c.request.after
	if after == nil {
		return c.start(log, end, c.fresh(log), record.Fresh), true
	}
	switch log.Locate(framelog.Entry(*after)) {
	case framelog.Here:
		return c.start(log, end, max(after.Offset+1, start), ""), true
	case framelog.Before:
		return c.start(log, end, start, record.Gap), true
	case framelog.Elsewhere:
		return c.start(log, end, start, record.Reset), true
	}
	// This pod has not read so far. That is ordinary if the client comes from a pod that was a
	// little ahead; if the topic itself does not go so far, the client knew another one.
	if last := c.Probe.Last(); last.Asked.After(c.came) && last.End <= after.Offset {
		return c.start(log, end, start, record.Reset), true
	}
	c.Probe.Ask()
	return c.wait()
}

// wait leaves the client where it is, after a welcome once it has waited for long.
func (c *Client) wait() (wsconn.Placement, bool) {
	if c.welcomed || time.Since(c.came) < patience {
		return wsconn.Placement{}, false
	}
	reason, position := record.Fresh, ""
	if c.request.after != nil {
		reason, position = "", c.request.after.String()
	}
	return wsconn.Placement{Hello: c.welcome(reason, position)}, false
}

// start places the client at offset from. It is live when it has what was there at offset end.
func (c *Client) start(log *framelog.Log, end, from int64, reason string) wsconn.Placement {
	if c.request.after != nil {
		c.Outcome(cmp.Or(reason, "resumed"))
	}
	p := wsconn.Placement{From: from, Mark: end}
	p.MarkFrames = wsconn.AppendText(nil, record.Live(position(log, end)))
	switch {
	case !c.welcomed:
		p.Hello = c.welcome(reason, position(log, from))
	case reason == record.Gap || reason == record.Reset:
		p.Hello = wsconn.AppendText(nil, record.Event(reason, nil))
	}
	return p
}

func (c *Client) welcome(reason, position string) []byte {
	c.welcomed = true
	w := c.Welcome()
	w.Reason, w.Resumed, w.Position = reason, reason == "", position
	switch reason {
	case record.Fresh:
		w.Detail = c.request.problem
	case record.Gap:
		w.Detail = "the position is older than what this pod still has"
	case record.Reset:
		w.Detail = "the position is of another topic, or of this one before it was made anew"
	}
	return wsconn.AppendText(nil, record.Event("welcome", w))
}

// position returns the position of a client that starts at offset, "" if it is not known.
func position(log *framelog.Log, offset int64) string {
	e, ok := log.Preceding(offset)
	if !ok || e.Sum == 0 && e.Offset >= 0 {
		return "" // a gap is there
	}
	return record.Position(e).String()
}
