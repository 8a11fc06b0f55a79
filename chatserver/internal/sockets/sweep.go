package sockets

// In ticks of a second: pingAfter is the silence after which a peer is asked for a sign of life,
// and deadAfter the silence after which it is taken for dead. Between them it has the time to
// answer. Load balancers cut idle connections after 60 s and more.
const (
	pingAfter = 25
	deadAfter = 60
)

// pinged is the notice that is sent again with each ping. What the loop pings, a web page does not
// see; by the notice it sees that the connection works.
const pinged Notice = 0

// sweep asks silent peers for a sign of life, and ends connections that give none. It is called
// once a tick.
func (l *Loop) sweep() {
	ping := appendControl(nil, finPing, nil)
	noticed := append(appendControl(nil, finPing, nil), l.notice(pinged)...)
	for _, c := range l.conns {
		switch {
		case c.phase >= closing:
			continue
		case len(c.rest) > 0:
			c.silent, c.unasked = 0, 0
			if c.stuck++; c.stuck >= stuckAfter {
				l.stats.Stuck++
				l.cut(c)
			}
			continue
		case c.heard.Load():
			c.heard.Store(false)
			c.silent, c.unasked = 0, 0
			continue
		case c.waiting.Load(): // the reader does not read, so the silence is not the peer's
			c.silent = 0
		default:
			c.silent++
		}
		switch c.unasked++; {
		case c.silent >= deadAfter:
			l.stats.Dead++
			l.cut(c)
		case c.unasked < pingAfter:
		case c.opts.Notices && c.phase > greeting:
			c.unasked = 0
			l.write(c, noticed)
		default:
			c.unasked = 0
			l.write(c, ping)
		}
	}
}
