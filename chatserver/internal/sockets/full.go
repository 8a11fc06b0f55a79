package sockets

import "time"

const (
	// A full socket is asked again after pauses from minPause to maxPause, in steps.
	step     = 5 * time.Millisecond
	minPause = 1  // step
	maxPause = 50 // steps
	// stuckAfter is how long a full socket may take nothing, in ticks of a second.
	stuckAfter = 32
)

// full are the connections whose sockets did not take all of the last write. Each is asked again
// after a pause.
type full struct {
	conns []*Conn
	due   *time.Timer // when the next is to be asked
	begun time.Time
}

func newFull() full { return full{due: time.NewTimer(0), begun: time.Now()} }

// now returns the time in steps.
func (f *full) now() int64 { return int64(time.Since(f.begun) / step) }

// add has c asked after the shortest pause.
func (f *full) add(c *Conn) {
	c.pause = minPause
	c.askAt = f.now() + minPause
	f.conns = append(f.conns, c)
	f.due.Reset(minPause * step)
}

// write writes frames to c, and keeps what its socket did not take.
func (l *Loop) write(c *Conn, frames []byte) {
	n, err := 0, error(nil)
	if len(frames) > 0 {
		n, err = l.out.write(&c.sock, frames)
	}
	if err != nil {
		l.cut(c)
		return
	}
	if n > 0 {
		c.stuck = 0
		c.took += n
	}
	if c.rest = frames[n:]; len(c.rest) == 0 {
		c.rest = nil // keeps none of the log's memory
		if c.phase == closing {
			c.endWriting()
		}
		return
	}
	if c.pause == 0 {
		l.full.add(c)
		if c.phase == live {
			l.stats.Slow++
			l.stats.BecameSlow++
		}
	}
}

// retry asks the full sockets whose pause is over.
func (l *Loop) retry() {
	now := l.full.now()
	next := now + maxPause
	kept := l.full.conns[:0]
	slow := int64(0)
	for _, c := range l.full.conns {
		if c.askAt <= now && c.phase != ended {
			l.ask(c)
			c.askAt = now + int64(c.pause)
		}
		if len(c.rest) == 0 {
			c.pause = 0
			continue
		}
		kept = append(kept, c)
		next = min(next, c.askAt)
		if c.phase == live {
			slow++
		}
	}
	clear(l.full.conns[len(kept):])
	l.full.conns = kept
	l.stats.Slow = slow
	if len(kept) > 0 {
		l.full.due.Reset(time.Duration(next-now) * step)
	}
}

// ask writes the rest to a full socket, and then what else there is for it. The pause grows while
// the socket takes little at a time: a peer on a slow line is asked as often as it is worth a write.
func (l *Loop) ask(c *Conn) {
	c.took = 0
	l.write(c, c.rest)
	if len(c.rest) == 0 {
		l.serve(c)
	}
	switch {
	case c.took < sendBuffer/4:
		c.pause = min(2*c.pause, maxPause)
	case c.took > sendBuffer/2:
		c.pause = max(c.pause/2, minPause)
	}
}

// dropBehind ends the connections with full sockets whose next message is before start, the log's
// start: they would find out only when their sockets take something.
func (l *Loop) dropBehind(start int64) {
	for _, c := range l.full.conns {
		if c.next < start {
			l.fallBehind(c)
		}
	}
}

// fallBehind ends a connection that wants what the log no longer holds.
func (l *Loop) fallBehind(c *Conn) {
	l.stats.FellBehind++
	l.cut(c)
}

// cut ends a connection without a close frame: a frame may have been cut.
func (l *Loop) cut(c *Conn) {
	c.rest = nil
	c.endWriting()
	c.hangUp()
}
