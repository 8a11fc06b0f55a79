package sockets

import (
	"slices"
	"time"
)

const (
	minPause = 5 * time.Millisecond // before a full socket is asked again
	maxPause = 250 * time.Millisecond
	// stuckAfter is how long a full socket may take nothing, in ticks of a second.
	stuckAfter = 32
)

// write writes frames to c, and keeps what its socket did not take.
func (l *Loop) write(c *Conn, frames []byte) {
	if len(frames) == 0 {
		return
	}
	n, err := l.out(&c.sock, frames)
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
		c.pause = minPause
		c.askAt = time.Since(l.begun) + minPause
		l.full = append(l.full, c)
		l.ask.Reset(minPause)
		if c.phase == live {
			l.stats.Slow++
			l.stats.BecameSlow++
		}
	}
}

// askFull writes to the full sockets whose pause is over.
func (l *Loop) askFull() {
	now := time.Since(l.begun)
	next := now + maxPause
	l.stats.Slow = 0
	l.full = slices.DeleteFunc(l.full, func(c *Conn) bool {
		if c.askAt <= now && c.phase != ended {
			l.askOne(c)
			c.askAt = now + c.pause
		}
		if len(c.rest) == 0 {
			c.pause = 0
			return true
		}
		next = min(next, c.askAt)
		if c.phase == live {
			l.stats.Slow++
		}
		return false
	})
	if len(l.full) > 0 {
		l.ask.Reset(next - now)
	}
}

// askOne writes the rest to a full socket, and then what else there is for it. The pause grows
// while the socket takes little at a time: a peer on a slow line is asked as often as it is worth a
// write.
func (l *Loop) askOne(c *Conn) {
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
