package wsconn

import (
	"context"
	"time"

	"kafkachat/chatserver/internal/framelog"
)

// What is in this file runs on the goroutine that owns the connection's writing side: the
// loop, or the solo goroutine. It decides what to write next, always in whole frames.

// A reader reads frames from a log: the log itself, or the loop's memo of it.
type reader interface {
	Read(track int, from, to int64) (frames []byte, n int, next int64, err error)
}

// takePending returns what others want written, nil for nothing. Last says that nothing may
// follow it.
func (c *Conn) takePending() (frames []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.pending
	if c.ended || p.left {
		return nil, true
	}
	frames, p.slot = p.slot, nil
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	if p.reset != nil {
		c.log = p.reset.log
		if c.place == nil { // otherwise its place in the new log is yet to be found
			if c.opts.Notices {
				frames = append(frames, p.reset.frame...)
			} else {
				c.endLocked(p.reset.close)
			}
			c.next, _ = c.log.Bounds()
			c.mark = c.next
			c.reached.Store(c.next)
		}
		p.reset = nil
	}
	if p.ping {
		frames = appendControl(frames, finPing, nil)
		p.ping = false
	}
	if p.close != nil {
		return append(frames, p.close...), true
	}
	return frames, false
}

// output returns what the connection is to get of the log before offset end, and of what goes
// with it, as one slice, and the number of messages in it; nil if it has everything.
func (c *Conn) output(log reader, end int64) (frames []byte, n int, err error) {
	if c.place != nil {
		p, placed := c.place(c.log)
		if placed {
			c.place = nil
			c.next, c.mark, c.markFrames = p.From, p.Mark, p.MarkFrames
			c.reached.Store(c.next)
		}
		if p.Hello != nil || !placed {
			return p.Hello, 0, nil
		}
	}
	if version := c.loop.noticeVersion.Load(); c.opts.Notices && c.noticed < version {
		if frames := c.loop.noticesSince(c.noticed); frames != nil {
			c.noticed = version
			return frames, 0, nil
		}
		c.noticed = version
	}
	if c.markFrames != nil {
		end = min(end, c.mark)
	}
	for c.next < end {
		frames, n, c.next, err = log.Read(c.opts.Track, c.next, end)
		if err != nil || len(frames) > 0 {
			c.reached.Store(c.next)
			return frames, n, err
		}
	}
	if c.markFrames != nil && c.next >= c.mark {
		frames, c.markFrames = c.markFrames, nil
		return frames, 0, nil
	}
	return nil, 0, nil
}

// finishWriting says that nothing more will be written.
func (c *Conn) finishWriting() {
	c.ended = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending.ended {
		c.pending.ended = true
		if c.pending.written != nil {
			close(c.pending.written)
		}
		if c.pending.room != nil {
			close(c.pending.room)
			c.pending.room = nil
		}
	}
}

// breakOff ends a connection whose last frame may have been cut: no close frame can follow.
func (c *Conn) breakOff() {
	c.finishWriting()
	c.cancel()
	c.sock.Conn.Close()
}

const (
	// soloPiece is the most bytes that the solo goroutine writes under one deadline. With
	// writeWait it is the slowest peer that is kept: 2 KiB/s.
	soloPiece = 64 << 10
	writeWait = 32 * time.Second
	// soloPause lets frames gather for a peer that has just been too slow, and keeps it from
	// going back and forth between the loop and its goroutine.
	soloPause = 20 * time.Millisecond
)

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

// fallBehind ends a connection that wants what the log no longer holds.
func (c *Conn) fallBehind() {
	c.loop.stats.fellBehind.Add(1)
	c.breakOff()
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

// A memo remembers the last read of each track: the connections that are caught up all read the
// same.
type memo struct {
	log   *framelog.Log
	reads []read // by track
}

type read struct {
	from, to int64

	frames []byte
	n      int
	next   int64
	err    error
}

func (m *memo) Read(track int, from, to int64) ([]byte, int, int64, error) {
	for track >= len(m.reads) {
		m.reads = append(m.reads, read{from: -1})
	}
	r := &m.reads[track]
	if r.from != from || r.to != to {
		r.from, r.to = from, to
		r.frames, r.n, r.next, r.err = m.log.Read(track, from, to)
	}
	return r.frames, r.n, r.next, r.err
}

// forget starts anew: what was remembered may have been evicted, and should not be pinned.
func (m *memo) forget(log *framelog.Log) {
	m.log = log
	for track := range m.reads {
		m.reads[track] = read{from: -1}
	}
}
