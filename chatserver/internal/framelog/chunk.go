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
}

// An entry is a record, or says that records are missing up to and with its offset.
type entry struct {
	Position
	gap bool
}

const (
	wordSize  = 8  // bytes of an int in ends
	entrySize = 16 // bytes of an entry in entries
)

// size is the memory that the chunk holds, spare capacity included.
func (c *chunk) size() int {
	n := cap(c.entries) * entrySize
	for t := range c.frames {
		n += cap(c.frames[t]) + cap(c.ends[t])*wordSize
	}
	return n
}

// used is what of its memory has content.
func (c *chunk) used() int {
	n := len(c.entries) * entrySize
	for t := range c.frames {
		n += len(c.frames[t]) + len(c.ends[t])*wordSize
	}
	return n
}

// search returns the index of the first entry at or after offset.
func (c *chunk) search(offset int64) int {
	i, _ := slices.BinarySearchFunc(c.entries, offset, func(e entry, offset int64) int {
		return cmp.Compare(e.Offset, offset)
	})
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
