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
	// bytes. If Grow returns false, it has closed the connection, and the reader gives the message
	// up. nil: no bound.
	Grow func(bytes int) bool
}

// A Place returns where a connection starts in the log; it must not block. If it returns false, the
// loop still sends the Hello, and calls the Place again when the log has grown and once a second.
type Place func(log *framelog.Log) (Placement, bool)

// A Placement is where a connection starts in the log.
type Placement struct {
	Hello      []byte // frames to send first; may be nil
	From       int64  // then everything from this offset on
	Mark       int64  // between the frames before and from this offset on, MarkFrames are sent
	MarkFrames []byte // nil: there is no mark
	Last       bool   // nothing follows MarkFrames: the connection is closed with 1000
}

// output returns the next bytes for c as one slice: the Hello, a notice, entries before offset end,
// or the MarkFrames. N is the number of messages in it. The slice is nil if c has everything.
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
