package sockets

// A silent peer gets a ping after each pingAfter, and counts as dead after deadAfter. Both are in
// ticks of a second. Load balancers cut idle connections after 60 s and more.
const (
	pingAfter = 25
	deadAfter = 60
)

// sweep pings silent peers, and ends connections that stay silent or take nothing. It is called
// once a tick.
func (l *Loop) sweep() {
	ping := appendFrame(nil, finPing, nil)
	noticed := append(appendFrame(nil, finPing, nil), l.notices[PingedNotice].frame...)
	for _, c := range l.conns {
		switch {
		case c.phase >= closing:
			continue
		case len(c.rest) > 0:
			c.silent = 0
			if c.stuck++; c.stuck >= stuckAfter {
				l.stats.Stuck++
				l.cut(c)
			}
			continue
		case c.heard.Swap(false):
			c.silent = 0
			continue
		}
		c.silent++
		switch {
		case c.silent >= deadAfter:
			l.stats.Dead++
			l.cut(c)
			continue
		case c.silent%pingAfter != 0:
			continue
		case c.opts.Notices && c.phase > greeting:
			l.write(c, noticed)
		default:
			l.write(c, ping)
		}
		if c.waiting.Load() { // the reader does not read, so the silence is not the peer's
			c.silent = 0
		}
	}
}

// PingedNotice is the notice that is sent again with each ping. Browsers do not show pings to a web
// page; the notice shows the page that the connection works.
const PingedNotice = 0

type notice struct {
	version uint64
	frame   []byte
}

// SetNotice sends payload to all connections that get notices, now and when one is added. Only the
// newest payload of each notice, 0 to 3, is kept.
func (l *Loop) SetNotice(which int, payload []byte) {
	frame := AppendText(nil, payload)
	l.post(func() {
		l.version++
		l.notices[which] = notice{l.version, frame}
		l.more = true
	})
}

// noticeAfter returns the oldest of the notices that are newer than version.
func (l *Loop) noticeAfter(version uint64) (next notice) {
	for _, n := range l.notices {
		if n.version > version && (next.version == 0 || n.version < next.version) {
			next = n
		}
	}
	return next
}
