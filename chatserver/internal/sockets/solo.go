package sockets

import (
	"context"
	"time"
)

const (
	// soloPiece is the most bytes that the solo goroutine writes under one deadline. With
	// writeWait it is the slowest peer that is kept: 2 KiB/s.
	soloPiece = 64 << 10
	writeWait = 32 * time.Second
	// soloPause lets frames gather for a peer that has just been too slow, and keeps it from
	// going back and forth between the loop and its goroutine.
	soloPause = 20 * time.Millisecond
)

// What is in this file runs on the solo goroutine of a connection.

// writeAlone owns the writing side while the socket is full, or for good if it is not a plain
// TCP socket. It begins with rest, which a full socket did not take. It gives the connection
// back when for a whole soloPause it has not had to wait for the peer.
func (c *Conn) writeAlone(rest []byte, last bool) {
	defer c.loop.solos.Done()
	defer c.giveBack()
	waited := true
	for {
		if len(rest) > 0 || last {
			w, err := c.writeWaiting(rest)
			if err != nil {
				if start, _ := c.log.Bounds(); c.next < start {
					c.fallBehind() // which is why the loop closed the socket, or would have
				} else {
					c.breakOff()
				}
				return
			}
			waited = waited || w
			if last {
				c.finishWriting()
				return
			}
		}
		if rest, last = c.takePending(); last && rest == nil {
			return
		} else if rest != nil {
			continue
		}
		log := c.log
		_, end := log.Bounds()
		frames, n, err := c.output(log, end)
		switch {
		case err != nil:
			c.fallBehind()
			return
		case frames != nil:
			c.loop.count(n, len(frames))
			rest = frames
		case c.raw == nil:
			<-c.wake
		case waited:
			waited = false
			pause(c.ctx, soloPause)
		default:
			// A deadline that passes would keep the loop from writing. If the end has begun by now,
			// its deadline is not needed: the loop does not wait.
			c.sock.Conn.SetWriteDeadline(time.Time{})
			return
		}
	}
}

func (c *Conn) giveBack() {
	c.mu.Lock()
	c.pending.back = true
	c.mu.Unlock()
	c.loop.attend(c)
}

// writeWaiting writes all of b, and says whether it had to wait for the peer.
func (c *Conn) writeWaiting(b []byte) (waited bool, err error) {
	for len(b) > 0 {
		piece := b[:min(len(b), soloPiece)]
		b = b[len(piece):]
		wait := writeWait
		if c.ctx.Err() != nil {
			wait = closeWait
		}
		c.sock.Conn.SetWriteDeadline(time.Now().Add(wait))
		if c.ctx.Err() != nil {
			// The close may have come, and set its own deadline, just before ours.
			c.sock.Conn.SetWriteDeadline(time.Now().Add(closeWait))
		}
		if c.raw == nil {
			_, err = c.sock.Conn.Write(piece)
			waited = true
		} else {
			var w bool
			w, err = writeAll(c.raw, piece)
			waited = waited || w
		}
		if err != nil {
			return waited, err
		}
	}
	return waited, nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
