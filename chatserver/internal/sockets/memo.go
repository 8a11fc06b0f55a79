package sockets

import "kafkachat/chatserver/internal/framelog"

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
