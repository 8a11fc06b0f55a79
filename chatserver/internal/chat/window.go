package chat

import "crypto/sha256"

// WindowSize is the number of offsets within which a second record with the same id is a copy. At
// 6,500 messages/s these are 10 s, and no copy is on its way for longer.
const WindowSize = 65536

// A Window finds the copies among the records of a log: the record at offset o is a copy if a
// record with the same id, itself a copy or not, lies in [o-size, o). That is a function of the
// log alone, so all pods decide alike; a pod that starts in the middle must read size
// offsets more than it shows.
//
// A Window holds a 128-bit hash of each id, not the id: 65,536 of them are 4 MB without a pointer
// for the garbage collector to follow. A Window is not safe for concurrent use.
type Window struct {
	size  int64
	next  int64 // the offset after the last record
	ids   map[idHash]sighting
	queue []queued // the sightings in the window, oldest first
}

type idHash [16]byte

type sighting struct {
	shown  int64 // offset of the first record of this chain of copies: the one that is shown
	newest int64 // offset of the last record of the chain
}

type queued struct {
	id     idHash
	offset int64
}

// NewWindow returns an empty window of size offsets.
func NewWindow(size int64) *Window {
	return &Window{size: size, ids: make(map[idHash]sighting)}
}

// Add takes the next record of the log; one without an id ("") is never a copy. Shown is the
// offset of the record that is shown for it: its own, unless it is a copy.
func (w *Window) Add(id string, offset int64) (shown int64, isCopy bool) {
	w.next = offset + 1
	w.expire(offset - w.size)
	if id == "" {
		return offset, false
	}
	h := hash(id)
	s, isCopy := w.ids[h]
	if !isCopy {
		s.shown = offset
	}
	s.newest = offset
	w.ids[h] = s
	w.queue = append(w.queue, queued{h, offset})
	return s.shown, isCopy
}

// Find returns the offset of the record with this id that is shown, if a record appended next
// would be a copy of it.
func (w *Window) Find(id string) (shown int64, ok bool) {
	s, ok := w.ids[hash(id)]
	if !ok || s.newest < w.next-w.size {
		return 0, false
	}
	return s.shown, true
}

// expire forgets the sightings before offset oldest.
func (w *Window) expire(oldest int64) {
	for len(w.queue) > 0 && w.queue[0].offset < oldest {
		q := w.queue[0]
		w.queue = w.queue[1:] // append moves what is left to new memory at times
		if w.ids[q.id].newest == q.offset {
			delete(w.ids, q.id)
		}
	}
}

func hash(id string) idHash {
	sum := sha256.Sum256([]byte(id))
	return idHash(sum[:16])
}
