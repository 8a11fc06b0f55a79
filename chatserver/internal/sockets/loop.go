// Package sockets is the only package that writes to websockets.
//
// One loop writes to all connections, and never waits for one. A connection is a position in the
// frame log. For a full socket the loop keeps the position and the rest of the last write, and
// tries again later. So every client costs the same memory, fast or slow. One writer for all is
// also cheaper than a goroutine for each: messages that come while the loop is busy share a write.
//
// Rules of this package:
//   - The loop owns the writing side of every connection. Other goroutines post a function, and the
//     loop runs it.
//   - All writes are whole frames. The rest that a full socket did not take goes first.
//   - A pass over the connections reads the end of the log once, before it begins. So a flood of
//     messages cannot make a pass endless.
//   - The only queue of a connection is one frame from its reader. While that frame waits, a reader
//     that has another frame waits, and so does the peer.
package sockets

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/framelog"
)

const (
	// turn is the number of writes that a connection gets in a row.
	turn = 4

	// After a pass shorter than minGather the loop does not gather: to sleep and to wake up is more
	// work than such a pass. After a pass longer than longPass the loop always gathers. Messages and
	// acks that come meanwhile wait, for maxGather at most.
	minGather = 100 * time.Microsecond
	longPass  = time.Millisecond
	maxGather = 5 * time.Millisecond

	// nothing is the next offset of a connection that needs nothing from the log.
	nothing = math.MaxInt64
)

// Loop owns the connections. Any goroutine may call its methods.
type Loop struct {
	tick      time.Duration // between two sweeps
	closeWait time.Duration // in which a peer must take and answer a close frame
	wake      chan struct{} // capacity 1, never closed: the log has grown, or a function is posted

	// Owned by Run.
	log      *framelog.Log
	out      writer
	conns    []*Conn
	unplaced []*Conn // those of conns that have no place yet
	end      int64   // of the log at the last pass
	notices  [4]notice
	version  uint64      // of the newest notice
	more     bool        // a pass is needed though the log has not grown
	leave    func(*Conn) // called for each connection that is added; nil: it may stay
	stats    Stats

	mu        sync.Mutex // guards the following
	posted    []func()
	over      bool // Run has returned
	published Stats
}

// Stats are counts since the start, except Conns.
type Stats struct {
	Conns      int64 // open connections
	Deliveries int64 // messages handed to sockets
	Bytes      int64 // of these messages
	BecameSlow int64 // times that the socket of a live connection became full
	FellBehind int64 // connections closed because the log no longer held their next entry
	Stuck      int64 // connections closed because a full socket took nothing for long
	Dead       int64 // connections closed because the peer was silent
}

// NewLoop returns a loop over log; it works while Run runs.
func NewLoop(log *framelog.Log) *Loop {
	return &Loop{log: log, out: newWriter(), wake: make(chan struct{}, 1), tick: time.Second, closeWait: closeWait}
}

// Run serves the connections until ctx ends. Then Run closes the sockets, except those of
// connections that are closing already, and returns when all readers have finished.
func (l *Loop) Run(ctx context.Context) {
	ticker := time.NewTicker(l.tick)
	defer ticker.Stop()
	stop := ctx.Done()
	for ending := false; !ending || len(l.conns) > 0; {
		select {
		case <-l.wake:
		case <-ticker.C:
			l.sweep()
		case <-stop:
			ending, stop, l.leave = true, nil, l.cut
			for _, c := range l.conns {
				if c.closing.Load() == nil {
					l.cut(c)
				}
			}
		}
		l.runPosted(false)
		began := time.Now()
		passed := l.pass()
		l.stats.Conns = int64(len(l.conns))
		l.mu.Lock()
		l.published = l.stats
		l.mu.Unlock()
		if passed {
			l.gather(time.Since(began))
		}
	}
	l.runPosted(true)
}

// gather waits after a pass for as long as the pass took, up to maxGather. Meanwhile other goroutines
// read from Kafka and from the clients, and their messages share a write. Under load that is less
// work than a pass for each message. After a short pass during which the log has not grown, gather
// does not wait: then there is no load.
func (l *Loop) gather(took time.Duration) {
	_, end := l.log.Bounds()
	if took < minGather || took < longPass && end == l.end {
		return
	}
	time.Sleep(min(took, maxGather))
}

// Wake says that the log has grown, or that a Place may have another answer.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// post gives f to the loop to run. It returns false if the loop has ended and will not run f.
func (l *Loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.posted = append(l.posted, f)
		l.Wake()
	}
	return !l.over
}

func (l *Loop) runPosted(over bool) {
	l.mu.Lock()
	posted := l.posted
	l.posted, l.over = nil, over
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// Stats returns the loop's counts.
func (l *Loop) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.published
}

// Reset moves all connections to the start of another log. Connections that get notices are sent
// payload first; the others are closed with 1013 and reason.
func (l *Loop) Reset(log *framelog.Log, payload []byte, reason string) {
	frame := AppendText(nil, payload)
	l.post(func() {
		if log == l.log {
			return
		}
		l.log, l.more = log, true
		start, _ := log.Bounds()
		for _, c := range l.conns {
			switch {
			case c.phase < replaying || c.phase >= closing:
			case !c.opts.Notices:
				c.next = nothing
				c.Close(websocket.CloseTryAgainLater, reason)
			default:
				c.phase, c.next, c.mark = replaying, start, start
				c.markFrames = append(slices.Clip(frame), c.markFrames...)
			}
		}
	})
}

// pass writes the new entries of the log to all connections. It returns false if there was nothing
// to write.
func (l *Loop) pass() bool {
	start, end := l.log.Bounds()
	l.unplaced = slices.DeleteFunc(l.unplaced, func(c *Conn) bool {
		l.serve(c)
		return c.phase >= replaying
	})
	if end == l.end && !l.more {
		return false
	}
	l.end, l.more = end, false
	for _, c := range l.conns {
		switch {
		case c.next < start: // the rest of a full socket would hide it until the socket takes bytes
			l.fallBehind(c)
		case c.next < end || c.noticed < l.version || c.phase == replaying:
			l.flush(c, end)
		}
	}
	return true
}

// serve writes the reader's frame, the last frames and the new entries of the log to c.
func (l *Loop) serve(c *Conn) {
	_, end := l.log.Bounds()
	if c.phase < replaying {
		l.flush(c, end) // the greeting goes first
	}
	if c.phase < closing && len(c.rest) == 0 {
		l.write(c, c.takePosted())
		l.flush(c, end)
	}
	if c.phase == ended {
		c.endWriting() // Finish does not wait for a farewell that came too late
	}
}

// flush writes the entries before end that c has not got, up to the writes of one turn.
func (l *Loop) flush(c *Conn, end int64) {
	for range turn {
		if c.phase >= closing || len(c.rest) > 0 {
			return
		}
		frames, n, err := l.output(c, end)
		switch {
		case err != nil:
			l.fallBehind(c)
			return
		case frames == nil:
			if c.phase == replaying {
				c.phase = live
			}
			return
		}
		l.stats.Deliveries += int64(n)
		l.stats.Bytes += int64(len(frames))
		l.write(c, frames)
	}
	l.more = true
	l.Wake()
}

// fallBehind ends a connection whose next entry the log no longer holds.
func (l *Loop) fallBehind(c *Conn) {
	l.stats.FellBehind++
	l.cut(c)
}
