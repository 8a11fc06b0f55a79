package sockets

// Stats are counts since the start, and gauges.
type Stats struct {
	Conns      int64 // open connections
	Slow       int64 // of them, those that had everything before, and whose sockets are full
	Deliveries int64 // messages handed to sockets
	Bytes      int64 // of them
	BecameSlow int64 // times that a connection became one of Slow
	FellBehind int64 // connections closed because the log no longer held what they had not got
	Stuck      int64 // connections closed because a full socket took nothing for long
	Dead       int64 // connections closed because the peer was silent
}

// Stats returns the loop's counts.
func (l *Loop) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.published
}

func (l *Loop) publish() {
	l.stats.Conns = int64(len(l.conns))
	l.mu.Lock()
	l.published = l.stats
	l.mu.Unlock()
}
