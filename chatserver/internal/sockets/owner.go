package sockets

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

// fallBehind ends a connection that wants what the log no longer holds.
func (c *Conn) fallBehind() {
	c.loop.stats.fellBehind.Add(1)
	c.breakOff()
}
