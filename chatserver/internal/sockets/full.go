package sockets

import "time"

const (
	minPause = 5 * time.Millisecond // before a full socket is tried again
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
		if c.phase == live { // the history for a new client may fill the socket
			l.stats.BecameSlow++
		}
		c.pause = minPause
		l.retryLater(c)
	}
}

func (l *Loop) retryLater(c *Conn) {
	time.AfterFunc(c.pause, func() { l.post(func() { l.retry(c) }) })
}

// retry writes the rest to a full socket, and then the frames after it. The pause grows while the
// socket takes few bytes at a time, so that each write is worth its cost.
func (l *Loop) retry(c *Conn) {
	c.took = 0
	l.write(c, c.rest)
	if len(c.rest) == 0 {
		l.serve(c)
	}
	switch {
	case len(c.rest) == 0:
		c.pause = 0
		return
	case c.took < sendBuffer/4:
		c.pause = min(2*c.pause, maxPause)
	case c.took > sendBuffer/2:
		c.pause = max(c.pause/2, minPause)
	}
	l.retryLater(c)
}
