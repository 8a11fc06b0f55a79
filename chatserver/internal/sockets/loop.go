// Package sockets is the only one that writes to websockets.
//
// One loop writes to all connections, and never waits for one. A connection is a position in the
// frame log. For a full socket the loop keeps the position and the rest of the last write, and tries
// again later. So a client costs the same memory whatever it does, and one writer for all is cheaper
// than a goroutine for each: the messages that come while the loop is busy gather, and share a write.
//
// Rules of this package:
//   - The loop owns the writing side of every connection. What others want done to a connection is
//     a function that they post, and the loop runs.
//   - All writes are whole frames; the rest of a frame goes first.
//   - A pass over the connections fixes the end of the log before it begins, so a flood of messages
//     does not hold it up.
//   - Nothing is queued for a connection but one frame of its reader's. While that frame waits, the
//     reader waits, and so does the peer.
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
	// turn is how many writes in a row a connection gets before the others have their turn.
	turn = 4

	// maxRest is the longest rest after a pass, that is how long what comes then, messages and acks
	// alike, may have to wait. To sleep and to wake up is more work than a pass shorter than
	// minRest.
	minRest  = 100 * time.Microsecond
	longPass = time.Millisecond
	maxRest  = 5 * time.Millisecond

	// nothing is the next offset of a connection that needs nothing of the log.
	nothing = math.MaxInt64
)

// Loop owns the connections. Its methods may be called by anybody.
type Loop struct {
	tick time.Duration // between two sweeps
	wake chan struct{} // capacity 1, never closed: the log has grown, or something is posted

	// Owned by Run.
	log      *framelog.Log
	out      writer
	conns    []*Conn
	unplaced []*Conn // those of conns that have no place yet
	end      int64   // of the log at the last pass
	notices  [4]notice
	version  uint64      // of the newest notice
	more     bool        // a pass is needed though the log has not grown
	leave    func(*Conn) // done with each connection that comes; nil: it may stay
	stats    Stats

	mu        sync.Mutex // guards the following
	posted    []func()
	over      bool // Run has returned
	published Stats
}

// Stats are counts since the start, but for Conns.
type Stats struct {
	Conns      int64 // open connections
	Deliveries int64 // messages handed to sockets
	Bytes      int64 // of them
	BecameSlow int64 // times that the socket of a connection that had everything became full
	FellBehind int64 // connections closed because the log no longer held what they had not got
	Stuck      int64 // connections closed because a full socket took nothing for long
	Dead       int64 // connections closed because the peer was silent
}

// NewLoop returns a loop over log; it works while Run runs.
func NewLoop(log *framelog.Log) *Loop {
	return &Loop{log: log, out: newWriter(), wake: make(chan struct{}, 1), tick: time.Second}
}

// Run serves the connections until ctx ends. Then it closes the sockets of all but those that are
// being closed already, and returns when all readers have finished.
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
			l.rest(time.Since(began))
		}
	}
	l.runPosted(true)
}

// rest waits after a pass for as long as the pass took, up to maxRest. So the loop leaves room for
// those who read from Kafka and from the clients, and the messages of that time share a write:
// under load that is less work than a pass for each. After a short pass during which nothing has
// come there is no load, and no rest.
func (l *Loop) rest(took time.Duration) {
	_, end := l.log.Bounds()
	if took < minRest || took < longPass && end == l.end {
		return
	}
	time.Sleep(min(took, maxRest))
}

// Wake says that the log has grown, or that a Place may have another answer.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// post has the loop run f; false says that the loop has ended, and will not.
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

// Reset has all connections go on at the start of another log: those that get notices are told by
// the given message, the others are closed with 1013 and the given reason.
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

// pass writes what is new in the log to all connections; false says that nothing was.
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
		case c.next < start: // a full socket would be found out only when it takes something
			l.fallBehind(c)
		case c.next < end || c.noticed < l.version || c.phase == replaying:
			l.flush(c, end)
		}
	}
	return true
}

// serve writes what there is for c: what has been posted, and what it has not got of the log.
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
		c.endWriting()
	}
}

// flush writes what c has not got of the log before end, as far as its turn goes.
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
