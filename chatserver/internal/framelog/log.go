// Package framelog is a pod's memory: a bounded, append-only log of ready-made bytes.
//
// An entry has the position of its record, and one frame for each track, which is an encoding. A
// reader is only an offset. The reader gets all frames from the offset on as one slice of
// contiguous bytes, so k missing entries need one write. The package does not know what the bytes
// mean.
package framelog

import (
	"errors"
	"slices"
	"sort"
	"sync"
)

// ErrEvicted says that the log no longer holds what a reader asked for.
var ErrEvicted = errors.New("framelog: the offset is older than the log")

// Log is safe for concurrent use by one appender and any number of readers.
//
// Invariants: offsets grow, with holes (transaction markers, dropped copies, compaction). Bytes
// that a reader was given never change, so a slow reader may hold them as long as it likes.
type Log struct {
	limit     int // bytes: frames and index; the newest chunk is kept whatever its size
	chunkSize int // bytes of content at which a chunk is full: limit/64, so eviction goes in small steps
	tracks    int

	mu     sync.RWMutex // guards the following; held for a search or the copy of one frame, never during I/O
	chunks []*chunk
	bytes  int   // sum of the chunks' sizes
	before entry // the last entry before chunks; a gap if it is not known
	end    int64 // the offset after the last entry
}

// New returns an empty log of entries from offset start on, with at most limit bytes of memory.
func New(limit, tracks int, start int64) *Log {
	// Nothing can come before offset 0, so a reader that has seen nothing misses nothing.
	before := entry{Position{Offset: start - 1}, start != 0}
	return &Log{limit: limit, chunkSize: max(limit/64, 4<<10), tracks: tracks, before: before, end: start}
}

// Append adds an entry, with a copy of one frame for each track, which may be empty. An offset
// below the log's end panics.
func (l *Log) Append(p Position, frames ...[]byte) { l.append(entry{Position: p}, frames) }

// AppendGap adds an entry which says that records before offset next are missing.
func (l *Log) AppendGap(next int64, frames ...[]byte) {
	l.append(entry{Position{Offset: next - 1}, true}, frames)
}

func (l *Log) append(e entry, frames [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Offset < l.end || len(frames) != l.tracks {
		panic("framelog: an entry out of order, or without one frame for each track")
	}
	if n := len(l.chunks); n == 0 || l.chunks[n-1].used >= l.chunkSize {
		l.chunks = append(l.chunks, l.newChunk())
	}
	c := l.chunks[len(l.chunks)-1]
	l.bytes -= c.size
	c.append(e, frames)
	l.bytes += c.size
	l.end = e.Offset + 1
	for l.bytes > l.limit && len(l.chunks) > 1 {
		l.bytes -= l.chunks[0].size
		l.before = l.chunks[0].last()
		l.chunks = slices.Delete(l.chunks, 0, 1)
	}
}

// Skip notes, before the first Append, that the record at p was read and is not shown.
func (l *Log) Skip(p Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.chunks) > 0 {
		panic("framelog: skip after append")
	}
	l.before, l.end = entry{Position: p}, p.Offset+1
}

// Bounds returns the offset from which on the log is complete and the one after its last entry.
func (l *Log) Bounds() (start, end int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.before.Offset + 1, l.end
}

// Size returns the bytes that the log holds and the number of its entries.
func (l *Log) Size() (bytes, entries int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, c := range l.chunks {
		entries += len(c.entries)
	}
	return l.bytes, entries
}

// Read returns the frames of one track with from <= offset < to, as far as they are contiguous in
// memory, and their number n. Next is the offset for the next Read, at most to. The caller must not
// write to the bytes. The error is ErrEvicted or nil.
func (l *Log) Read(track int, from, to int64) (frames []byte, n int, next int64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if from <= l.before.Offset {
		return nil, 0, from, ErrEvicted
	}
	to = min(to, l.end)
	if from >= to {
		return nil, 0, from, nil
	}
	at, first := l.find(from)
	c := l.chunks[at]
	last := len(c.entries)
	next = to
	if c.last().Offset >= to {
		last = c.search(to)
	} else if at+1 < len(l.chunks) {
		next = min(to, l.chunks[at+1].entries[0].Offset)
	}
	if first >= last {
		return nil, 0, next, nil
	}
	begin, end := 0, c.ends[track][last-1]
	if first > 0 {
		begin = c.ends[track][first-1]
	}
	return c.frames[track][begin:end:end], last - first, next, nil
}

// Newest returns where the newest n entries begin.
func (l *Log) Newest(n int) int64 {
	_, end := l.Bounds()
	from, _ := l.NewestBefore(n, end)
	return from
}

// NewestBefore returns where the newest n entries before offset begin, and how many there are.
func (l *Log) NewestBefore(n int, offset int64) (from int64, found int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	start := l.before.Offset + 1
	from = max(offset, start)
	for at, i := l.find(offset); found < n; {
		if i == 0 {
			if at--; at < 0 {
				return start, found
			}
			i = len(l.chunks[at].entries)
		}
		take := min(n-found, i)
		found += take
		i -= take
		from = l.chunks[at].entries[i].Offset
	}
	return from, found
}

// A Place is where a position lies, seen from a log.
type Place int

const (
	Here      Place = iota // in the log, or directly before its start: all that follows is complete
	Before                 // older than the log's start: something between them is missing
	InGap                  // among records that were lost before they could be appended
	Ahead                  // not appended yet: it may still come
	Elsewhere              // this offset has another record, or none: the position belongs to another log
)

// Locate says where p lies.
func (l *Log) Locate(p Position) Place {
	l.mu.RLock()
	defer l.mu.RUnlock()
	there := l.before
	switch {
	case p.Offset == there.Offset && !there.gap:
	case p.Offset <= there.Offset:
		return Before
	case p.Offset >= l.end:
		return Ahead
	default:
		at, i := l.find(p.Offset)
		there = l.chunks[at].entries[i]
	}
	switch {
	case there.gap:
		return InGap
	case there.Position == p:
		return Here
	}
	return Elsewhere
}

// Preceding returns the position of the last record before offset. It is not known after a gap, and
// at the start of most logs.
func (l *Log) Preceding(offset int64) (Position, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e := l.before
	switch at, i := l.find(offset); {
	case i > 0:
		e = l.chunks[at].entries[i-1]
	case at > 0:
		e = l.chunks[at-1].last()
	}
	if e.gap || e.Offset >= offset {
		return Position{}, false
	}
	return e.Position, true
}

// find returns the indices of the chunk and of the first entry in it at or after offset. With no
// such entry it returns (number of chunks, 0).
func (l *Log) find(offset int64) (at, i int) {
	n := len(l.chunks)
	switch {
	case n == 0 || offset >= l.end:
		return n, 0
	case l.chunks[n-1].entries[0].Offset <= offset: // readers are nearly always at the end
		at = n - 1
	default:
		at = sort.Search(n, func(i int) bool { return l.chunks[i].last().Offset >= offset })
	}
	return at, l.chunks[at].search(offset)
}

// A chunk is the unit of eviction. Its slices only grow. When a slice moves to new memory, readers
// keep the old memory.
type chunk struct {
	entries []entry
	frames  [][]byte // one a track: the frames of all entries, back to back
	ends    [][]int  // one a track: where the frame of each entry ends in frames
	size    int      // bytes of memory that the chunk holds, spare capacity included
	used    int      // bytes of size that have content
}

// An entry is a record, or says that records are missing up to and including its offset.
type entry struct {
	Position
	gap bool
}

// newChunk returns an empty chunk with room for about as much as the one before it took.
func (l *Log) newChunk() *chunk {
	c := &chunk{frames: make([][]byte, l.tracks), ends: make([][]int, l.tracks)}
	if n := len(l.chunks); n > 0 {
		full := l.chunks[n-1]
		c.entries = make([]entry, 0, len(full.entries))
		for t := range c.frames {
			c.frames[t] = make([]byte, 0, min(len(full.frames[t]), l.chunkSize))
			c.ends[t] = make([]int, 0, len(full.ends[t]))
		}
	}
	return c
}

func (c *chunk) append(e entry, frames [][]byte) {
	const wordSize, entrySize = 8, 24 // bytes of an int and of an entry
	c.entries = append(c.entries, e)
	c.size, c.used = cap(c.entries)*entrySize, len(c.entries)*entrySize
	for t, frame := range frames {
		c.frames[t] = append(c.frames[t], frame...)
		c.ends[t] = append(c.ends[t], len(c.frames[t]))
		c.size += cap(c.frames[t]) + cap(c.ends[t])*wordSize
		c.used += len(c.frames[t]) + len(c.ends[t])*wordSize
	}
}

func (c *chunk) last() entry { return c.entries[len(c.entries)-1] }

// search returns the index of the first entry at or after offset.
func (c *chunk) search(offset int64) int {
	return sort.Search(len(c.entries), func(i int) bool { return c.entries[i].Offset >= offset })
}
