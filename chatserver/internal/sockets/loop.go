// Package sockets is the only one that writes to websockets.
//
// One loop writes to all connections, and never waits for one. A connection is a position in the
// frame log. A socket that is full keeps the connection's position and the rest of the last write,
// and is asked again later. So a client costs the same memory whatever it does, and one writer for
// all is cheaper than a goroutine for each: the messages that come while the loop is busy gather,
// and share a write.
//
// Rules of this package:
//   - The loop owns the writing side of every connection. What others want written, the end of a
//     connection included, is posted to the loop, which serves that connection at once.
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
	"sync/atomic"
	"time"

	"kafkachat/chatserver/internal/framelog"
)

const (
	// turn is how many writes in a row a connection gets before the others have their turn.
	turn = 4

	// maxRest is the longest rest after a pass, that is how long what comes then, messages and acks
	// alike, may have to wait. To sleep and to wake up is more work than a pass shorter than minRest.
	minRest  = 100 * time.Microsecond
	longPass = time.Millisecond
	maxRest  = 5 * time.Millisecond

	// nothing is the next offset of a connection that needs nothing of the log.
	nothing = math.MaxInt64
)

// Loop owns the connections. Its methods may be called by anybody.
type Loop struct {
	tick     time.Duration // between two sweeps
	buffers  sync.Pool     // of *[]byte, the first buffers of messages
	wake     chan struct{} // capacity 1, never closed: the log has grown, or there is mail
	requests chan func()   // to be run by the loop
	done     chan struct{} // closed when Run has returned

	// Owned by Run.
	log      *framelog.Log
	out      writer
	conns    []*Conn
	unplaced []*Conn // those of conns that have no place yet
	start    int64   // the bounds of the log at the last pass
	end      int64
	noticed  uint64 // the notices' version at the last pass
	more     bool   // a connection has not got everything in its turn
	full     full
	rested   *time.Timer
	ending   bool
	stats    Stats

	noticeVersion atomic.Uint64 // written under mu

	mu        sync.Mutex // guards the following, and Conn.closing
	mail      []mail
	spare     []mail   // the other buffer of mail
	notices   []notice // by Notice
	published Stats
}

// NewLoop returns a loop over log; it works while Run runs.
func NewLoop(log *framelog.Log) *Loop {
	l := &Loop{
		tick:     time.Second,
		wake:     make(chan struct{}, 1),
		requests: make(chan func()),
		done:     make(chan struct{}),
		log:      log,
		out:      newWriter(),
		full:     newFull(),
		rested:   time.NewTimer(0),
	}
	l.buffers.New = func() any { b := make([]byte, 0, smallBuffer); return &b }
	return l
}

// Run serves the connections until ctx ends; then it closes the sockets that are left and
// returns when all readers have finished.
func (l *Loop) Run(ctx context.Context) {
	defer l.finish()
	ticker := time.NewTicker(l.tick)
	defer ticker.Stop()
	stop := ctx.Done()
	for !l.ending || len(l.conns) > 0 {
		select {
		case <-l.wake:
		case <-l.full.due.C:
			l.retry()
		case request := <-l.requests:
			request()
		case <-ticker.C:
			l.sweep()
		case <-stop:
			l.ending, stop = true, nil
			for _, c := range l.conns {
				l.cut(c)
			}
		}
		l.readMail()
		began := time.Now()
		passed := l.pass()
		l.publish()
		if passed {
			l.rest(ctx, time.Since(began))
		}
	}
}

// rest waits after a pass for as long as the pass took, up to maxRest. So the loop leaves room for
// those who read from Kafka and from the clients, and the messages of that time share a write: under
// load that is less work than a pass for each. After a short pass during which nothing has come
// there is no load, and no rest.
func (l *Loop) rest(ctx context.Context, took time.Duration) {
	_, end := l.log.Bounds()
	if took < minRest || took < longPass && end == l.end {
		return
	}
	l.rested.Reset(min(took, maxRest))
	select {
	case <-l.rested.C:
	case <-ctx.Done():
	}
}

// finish closes the sockets of connections that came too late to be served. Those that come
// later still see done closed, and do it themselves.
func (l *Loop) finish() {
	close(l.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.mail {
		m.conn.hangUp()
	}
}

// Wake says that the log has grown, or that a Place may have another answer.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Reset has all connections go on at the start of another log: those that get notices are
// told by the given message, the others are closed with the given code and reason.
func (l *Loop) Reset(log *framelog.Log, payload []byte, code int, reason string) {
	frame := AppendText(nil, payload)
	l.do(func() {
		l.log = log
		l.start, l.end = log.Bounds()
		for _, c := range l.conns {
			switch {
			case c.phase < replaying || c.phase >= closing:
			case !c.opts.Notices:
				c.Close(code, reason)
			default:
				c.phase, c.next, c.mark = replaying, l.start, l.start
				c.markFrames = append(slices.Clip(frame), c.markFrames...)
				l.flush(c, l.end)
			}
		}
	})
}

// do runs f on the loop's goroutine, unless the loop has ended, and returns when it has run.
func (l *Loop) do(f func()) {
	ran := make(chan struct{})
	select {
	case l.requests <- func() { f(); close(ran) }:
		<-ran
	case <-l.done:
	}
}

// pass writes what is new in the log to all connections; false says that nothing was.
func (l *Loop) pass() bool {
	start, end := l.log.Bounds()
	version := l.noticeVersion.Load()
	l.unplaced = slices.DeleteFunc(l.unplaced, func(c *Conn) bool {
		l.serve(c)
		return c.phase >= replaying
	})
	if end == l.end && version == l.noticed && !l.more {
		return false
	}
	if start > l.start {
		l.dropBehind(start)
	}
	l.start, l.end, l.noticed, l.more = start, end, version, false
	for _, c := range l.conns {
		if c.next < end || c.noticed < version || c.phase == replaying {
			l.flush(c, end)
		}
	}
	return true
}

// flush writes what c has not got of the log before end, as far as its turn goes.
func (l *Loop) flush(c *Conn, end int64) {
	for range turn {
		if c.phase >= closing || len(c.rest) > 0 {
			return
		}
		frames, n, err := c.output(l.log, end)
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
