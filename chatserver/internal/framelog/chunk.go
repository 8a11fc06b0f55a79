package framelog

import (
	"cmp"
	"slices"
)

// A chunk is the unit of eviction. Its slices only grow; a grown slice has new memory, and
// readers keep the old one.
type chunk struct {
	entries []entry
	frames  [][]byte // one a track: the frames of all entries, back to back
	ends    [][]int  // one a track: where the frame of each entry ends in frames
	size    int      // bytes of memory that the chunk holds, spare capacity included
	used    int      // of them, what has content
}

// An entry is a record, or says that records are missing up to and with its offset.
type entry struct {
	Position
	gap bool
}

func (e entry) compare(offset int64) int { return cmp.Compare(e.Offset, offset) }

// newChunk returns an empty chunk with room for about as much as the one before it took. It needs
// l.mu.
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
	const wordSize, entrySize = 8, 16 // bytes of an int and of an entry
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
	i, _ := slices.BinarySearchFunc(c.entries, offset, entry.compare)
	return i
}

// slice returns the frames of the entries first to last-1. Its capacity ends with it, so
// that nobody can append into the log.
func (c *chunk) slice(track, first, last int) []byte {
	begin, end := 0, c.ends[track][last-1]
	if first > 0 {
		begin = c.ends[track][first-1]
	}
	return c.frames[track][begin:end:end]
}
