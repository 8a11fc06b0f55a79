package sockets

import (
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/framelog"
)

// Options say how a connection is served.
type Options struct {
	Track       int           // of the log, that is the encoding
	Notices     bool          // whether it gets the loop's notices and survives a reset of the log
	Place       Place         // where it starts
	Limit       int64         // bytes of the longest message that is read
	MessageTime time.Duration // for a message, from its first header to its last byte; 0: no bound
	// Grow is called by the reader before the buffer of an unfinished message grows by that many
	// bytes. False gives the message up; Grow has closed the connection then. nil: no bound.
	Grow func(bytes int) bool
}

// Place says where a connection starts in the log; it must not block. As long as it returns false
// it is asked again whenever the log has grown and once a second, and what it returned as Hello is
// sent all the same.
type Place func(log *framelog.Log) (Placement, bool)

// A Placement is the answer to where a connection starts in the log.
type Placement struct {
	Hello      []byte // frames to send first; may be nil
	From       int64  // then everything from this offset on
	Mark       int64  // between the frames before and from this offset on, MarkFrames are sent
	MarkFrames []byte // nil: there is no mark
	Last       bool   // nothing follows MarkFrames: the connection is closed with 1000
}

// output returns what the connection is to get of the log before offset end, and of what goes with
// it, as one slice, and the number of messages in it; nil if it has everything.
func (l *Loop) output(c *Conn, end int64) (frames []byte, n int, err error) {
	if c.phase < replaying {
		p, placed := c.opts.Place(l.log)
		switch {
		case placed:
			c.phase, c.opts.Place = replaying, nil
			c.next, c.mark, c.markFrames, c.last = p.From, p.Mark, p.MarkFrames, p.Last
		case p.Hello != nil:
			c.phase = placing
		}
		if p.Hello != nil || c.phase == greeting {
			return p.Hello, 0, nil
		}
	}
	if c.noticed < l.version {
		n := l.noticeAfter(c.noticed)
		c.noticed = n.version
		return n.frame, 0, nil
	}
	if c.phase == placing {
		return nil, 0, nil
	}
	if c.markFrames != nil {
		end = min(end, c.mark)
	}
	for c.next < end {
		frames, n, c.next, err = l.log.Read(c.opts.Track, c.next, end)
		if err != nil || len(frames) > 0 {
			return frames, n, err
		}
	}
	if c.markFrames != nil && c.next >= c.mark {
		frames, c.markFrames = c.markFrames, nil
		if c.last {
			c.next = nothing
			c.end(appendClose(frames, websocket.CloseNormalClosure, ""))
			return nil, 0, nil
		}
		return frames, 0, nil
	}
	return nil, 0, nil
}
