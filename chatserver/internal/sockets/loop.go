// Package sockets is the only one that writes to websockets.
//
// One loop writes to all connections that are caught up, without ever waiting: a socket that
// is full goes to a goroutine of its own, the solo goroutine, until it has caught up. A
// connection is only a position in the frame log, so whatever it does it costs no more memory
// than that. One writer for all is cheaper than a goroutine for each: nothing is woken but the
// loop, and while one pass over the connections runs the next messages gather, so that under
// load each write carries several.
//
// Rules of this package:
//   - The writing side of a connection has one owner, the loop or its solo goroutine, and
//     goes from one to the other only through the loop's queue of connections to look at.
//     Whoever is looked at is flushed, so there is no flag that could be missed.
//   - All writes are whole frames; what a socket did not take goes first.
//   - Each pass fixes the end of the log before it starts, so a flood cannot hold it up.
//   - Nothing is queued for a connection but one frame of its reader's; while that waits, the
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
	// burst is how many times in a row a connection is written to before the others have their
	// turn and it goes on alone: it is behind, or may be.
	burst = 4

	// maxRest is the longest rest after a pass, that is how long what comes then, messages and acks
	// alike, may have to wait. After passes shorter than minRest there is none: to sleep and wake up would be more work.
	minRest = 100 * time.Microsecond
	maxRest = 5 * time.Millisecond

	// unplaced is the next offset of a connection that has no place yet: it needs nothing of the log.
	unplaced = math.MaxInt64
)

// Loop owns the connections. Its methods may be called by anybody.
type Loop struct {
	buffers  sync.Pool     // of *[]byte, for messages being read
	now      atomic.Int64  // seconds since the loop was made; exact to a tick
	wake     chan struct{} // capacity 1, never closed: the log has grown, or attention has
	requests chan func()   // to be run by the loop
	done     chan struct{} // closed when Run has returned
	solos    sync.WaitGroup
	stats    stats

	// Owned by Run.
	log     *framelog.Log
	memo    memo
	out     *nonblocking
	conns   []*Conn
	parked  []*Conn // those of conns that were not yet placed when last looked at
	start   int64   // the bounds of the log at the last pass
	end     int64
	noticed uint64 // the notices' version at the last pass
	rested  *time.Timer
	ending  bool

	noticeVersion atomic.Uint64 // written under mu

	mu        sync.Mutex // guards the following
	attention []*Conn    // to be looked at, each once
	spare     []*Conn    // the other buffer of attention
	notices   []notice   // by Notice
}

type stats struct {
	conns, solos, deliveries, bytes, moved, fellBehind, dead atomic.Int64
}

// Stats are counts since the start, and gauges.
type Stats struct {
	Conns      int64 // open connections
	Solos      int64 // of them, those with a goroutine of their own
	Deliveries int64 // messages handed to sockets
	Bytes      int64 // of them
	Moved      int64 // times that a full socket went to a goroutine of its own
	FellBehind int64 // connections closed because the log no longer held what they had not got
	Dead       int64 // connections closed because the peer was silent
}

// NewLoop returns a loop over log; it works while Run runs.
func NewLoop(log *framelog.Log) *Loop {
	l := &Loop{
		wake:     make(chan struct{}, 1),
		requests: make(chan func()),
		done:     make(chan struct{}),
		out:      newNonblocking(),
		rested:   time.NewTimer(0),
		log:      log,
	}
	l.buffers.New = func() any { b := make([]byte, 0, 512); return &b }
	l.memo.forget(log)
	return l
}

// Run serves the connections until ctx ends; then it closes the sockets that are left and
// returns when all readers have finished.
func (l *Loop) Run(ctx context.Context) {
	defer l.finish()
	begun := time.Now()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	stop := ctx.Done()
	for !l.ending || len(l.conns) > 0 {
		select {
		case <-l.wake:
		case request := <-l.requests:
			request()
		case <-ticker.C:
			l.now.Store(int64(time.Since(begun) / time.Second))
			l.sweep()
		case <-stop:
			l.ending, stop = true, nil
			for _, c := range l.conns {
				c.sock.Conn.Close()
			}
		}
		l.lookAround()
		if began := time.Now(); l.pass() {
			l.rest(ctx, time.Since(began))
		}
	}
	l.solos.Wait()
}

// rest waits after a pass for as long as it took, up to maxRest. So the loop leaves room for those
// who read from Kafka and from the clients, and the messages of that time share a write: under
// load that is less work, and less waiting, than a pass for each.
func (l *Loop) rest(ctx context.Context, took time.Duration) {
	if took < minRest {
		return
	}
	l.rested.Reset(min(took, maxRest))
	select {
	case <-l.rested.C:
	case <-ctx.Done():
	}
}

// finish closes the sockets of connections that came too late to be looked at. Those that come
// later still see done closed, and do it themselves.
func (l *Loop) finish() {
	close(l.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.attention {
		c.sock.Conn.Close()
	}
}

// Wake says that the log has grown.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Reset has all connections go on at the start of another log: those that get notices are
// told by the given message, the others are closed with the given code and reason.
func (l *Loop) Reset(log *framelog.Log, payload []byte, code int, reason string) {
	r := &reset{log, AppendText(nil, payload), appendClose(nil, code, reason)}
	l.do(func() {
		l.log = log
		l.start, l.end = log.Bounds()
		l.memo.forget(log)
		for _, c := range l.conns {
			c.mu.Lock()
			c.pending.reset = r
			c.mu.Unlock()
			l.attend(c)
			if c.solo {
				// It may be blocked in a write, and would keep the old log for as long.
				c.sock.Conn.SetWriteDeadline(time.Now().Add(closeWait))
			}
		}
	})
}

// Stats returns the loop's counts.
func (l *Loop) Stats() Stats {
	s := &l.stats
	return Stats{
		Conns: s.conns.Load(), Solos: s.solos.Load(), Deliveries: s.deliveries.Load(), Bytes: s.bytes.Load(),
		Moved: s.moved.Load(), FellBehind: s.fellBehind.Load(), Dead: s.dead.Load(),
	}
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

// attend has the loop look at c.
func (l *Loop) attend(c *Conn) {
	c.mu.Lock()
	queued := c.queued
	c.queued = true
	c.mu.Unlock()
	if queued {
		return
	}
	l.mu.Lock()
	l.attention = append(l.attention, c)
	l.mu.Unlock()
	l.Wake()
}

func (l *Loop) lookAround() {
	l.mu.Lock()
	conns := l.attention
	l.attention, l.spare = l.spare[:0], conns
	l.mu.Unlock()
	for i, c := range conns {
		l.look(c)
		conns[i] = nil
	}
}

func (l *Loop) look(c *Conn) {
	c.mu.Lock()
	c.queued = false
	back, left := c.pending.back, c.pending.left
	c.pending.back = false
	c.mu.Unlock()
	if back {
		c.solo = false
		l.stats.solos.Add(-1)
		if c.place != nil {
			l.parked = append(l.parked, c) // pass may have left it out
		}
	}
	switch {
	case c.solo:
		c.signal() // it looks itself, and gives the connection back if the reader has left
		return
	case left:
		l.remove(c)
		return
	case c.index < 0 && c.place != nil:
		l.add(c)
		if c.raw == nil {
			l.goAlone(c, nil, false)
			return
		}
	}
	if frames, last := c.takePending(); frames != nil || last {
		if !l.write(c, frames, last) || last {
			return
		}
	}
	if c.index >= 0 {
		_, end := c.log.Bounds()
		l.flush(c, end)
	}
}

func (l *Loop) add(c *Conn) {
	c.log = l.log
	c.next = unplaced
	c.index = len(l.conns)
	l.conns = append(l.conns, c)
	l.parked = append(l.parked, c)
	l.stats.conns.Store(int64(len(l.conns)))
	if l.ending {
		c.sock.Conn.Close()
	}
}

func (l *Loop) remove(c *Conn) {
	if c.index < 0 {
		return
	}
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	c.index = -1
	l.stats.conns.Store(int64(len(l.conns)))
}

// pass writes what is new in the log to all connections; false says that nothing was.
func (l *Loop) pass() bool {
	start, end := l.log.Bounds()
	version := l.noticeVersion.Load()
	l.parked = slices.DeleteFunc(l.parked, func(c *Conn) bool {
		if c.index < 0 || c.solo {
			return true
		}
		l.flush(c, end)
		return c.place == nil
	})
	if end == l.end && version == l.noticed {
		return false
	}
	evicted := start > l.start
	l.start, l.end, l.noticed = start, end, version
	for _, c := range l.conns {
		switch {
		case !c.solo:
			if c.next < end || c.noticed < version {
				l.flush(c, end)
			}
		case evicted && c.reached.Load() < start:
			// It may be blocked in a write, holding memory that the log has let go.
			c.sock.Conn.Close()
		default:
			c.signal()
		}
	}
	l.memo.forget(l.log)
	return true
}

// flush writes what c has not got of the log before end.
func (l *Loop) flush(c *Conn, end int64) {
	for range burst {
		if c.ended {
			return
		}
		frames, n, err := c.output(&l.memo, end)
		switch {
		case err != nil:
			c.fallBehind()
			return
		case frames == nil:
			return
		}
		l.count(n, len(frames))
		if !l.write(c, frames, false) {
			return
		}
	}
	l.goAlone(c, nil, false)
}

// write writes to c without waiting; false says that c is no longer the loop's.
func (l *Loop) write(c *Conn, frames []byte, last bool) bool {
	if c.ended {
		return false
	}
	if len(frames) > 0 {
		n, err := l.out.write(c.raw, frames)
		if err != nil {
			c.breakOff()
			return false
		}
		if n < len(frames) {
			l.goAlone(c, frames[n:], last)
			return false
		}
	}
	if last {
		c.finishWriting()
	}
	return true
}

// goAlone gives c's writing side to a goroutine of its own.
func (l *Loop) goAlone(c *Conn, rest []byte, last bool) {
	c.solo = true
	c.reached.Store(c.next)
	l.stats.solos.Add(1)
	l.stats.moved.Add(1)
	l.solos.Add(1)
	go c.writeAlone(rest, last)
}

func (l *Loop) count(messages, bytes int) {
	l.stats.deliveries.Add(int64(messages))
	l.stats.bytes.Add(int64(bytes))
}

// signal has the solo goroutine look.
func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
