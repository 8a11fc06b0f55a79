package sockets

import "math"

// A mail is what somebody else wants of the loop.
type mail struct {
	conn   *Conn
	what   what
	frames []byte // of send
}

type what uint8

const (
	join  what = iota // the connection is new
	send              // one frame of the reader's: ack, reject, pong
	end               // the end has begun
	leave             // the reader has finished
)

// post gives mail to the loop. It must be called with l.mu held.
func (l *Loop) post(c *Conn, what what, frames []byte) {
	l.mail = append(l.mail, mail{c, what, frames})
	l.Wake()
}

func (l *Loop) readMail() {
	l.mu.Lock()
	mails := l.mail
	l.mail, l.spare = l.spare[:0], mails
	l.mu.Unlock()
	for i, m := range mails {
		switch m.what {
		case join:
			l.add(m.conn)
		case send:
			m.conn.slot = m.frames
		case end:
			m.conn.farewell = m.conn.closing // which does not change any more
		case leave:
			l.remove(m.conn)
		}
		l.serve(m.conn)
		mails[i] = mail{}
	}
}

// serve writes what is there for c: its mail, and what it has not got of the log.
func (l *Loop) serve(c *Conn) {
	_, end := l.log.Bounds()
	if c.phase < replaying {
		l.flush(c, end) // the greeting goes first
	}
	if c.phase < closing && len(c.rest) == 0 {
		l.write(c, c.takeMail())
		l.flush(c, end)
	}
	if c.phase == ended {
		c.endWriting()
	}
}

func (l *Loop) add(c *Conn) {
	c.phase, c.next = placing, nothing
	if c.opts.Notices {
		c.phase = greeting
	}
	c.index = len(l.conns)
	l.conns = append(l.conns, c)
	l.unplaced = append(l.unplaced, c)
	if l.ending {
		l.cut(c)
	}
}

// remove forgets a connection whose reader has finished.
func (l *Loop) remove(c *Conn) {
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.cut(c)
}

// takeMail returns what has been posted for c, nil for nothing. After the last frames the connection
// is closing.
func (c *Conn) takeMail() (frames []byte) {
	if c.phase == greeting && c.farewell == nil {
		return nil
	}
	if c.slot != nil {
		frames, c.slot = c.slot, nil
		<-c.room
	}
	if c.farewell != nil {
		c.phase, c.next = closing, nothing
		frames = append(frames, c.farewell.frames...)
	}
	return frames
}

// endWriting says that nothing more will be written.
func (c *Conn) endWriting() {
	c.phase, c.next, c.noticed, c.place = ended, nothing, math.MaxUint64, nil
	if c.farewell != nil {
		close(c.farewell.written)
		c.farewell = nil
	}
}
