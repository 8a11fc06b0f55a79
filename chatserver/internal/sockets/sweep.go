package sockets

import "time"

const (
	// pingAfter is the silence after which a peer is asked for a sign of life, and deadAfter
	// the silence after which it is taken for dead. Between them it has the time to answer.
	// Load balancers cut idle connections after 60 s and more.
	pingAfter = 25 * time.Second
	deadAfter = 60 * time.Second
	tick      = time.Second // between two looks at who is silent
)

// sweep asks silent peers for a sign of life, and closes those that gave none. And it has those
// that are alone and not placed yet ask for their place.
func (l *Loop) sweep() {
	now := l.now.Load()
	for _, c := range l.conns {
		if c.solo && c.reached.Load() == unplaced {
			c.signal()
		}
		if c.waiting.Load() {
			c.heard.Store(now)
			continue
		}
		heard := c.heard.Load()
		switch silence := time.Duration(now-heard) * time.Second; {
		case silence >= deadAfter:
			l.stats.dead.Add(1)
			c.sock.Conn.Close()
		case silence >= pingAfter && c.pinged.Load() <= heard:
			c.pinged.Store(now)
			c.mu.Lock()
			c.pending.ping = true
			c.mu.Unlock()
			l.attend(c)
		}
	}
}
