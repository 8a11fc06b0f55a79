package framelog_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"kafkachat/chatserver/internal/framelog"
)

// The log is compared with a plain slice that keeps everything. What to do comes from a string
// of bytes, so that the same interpreter serves random programs and the fuzzer's.

func FuzzLogIsASliceWhoseStartMoves(f *testing.F) {
	f.Add([]byte("\x02\x05\x01\x04\x09\x00\x00\x00\x01\x80\x05\x00\x07\x00\x02\x08\x00\x03"))
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		program := make([]byte, 3+rng.IntN(3000))
		for i := range program {
			program[i] = byte(rng.Uint32())
		}
		f.Add(program)
	}
	f.Fuzz(runProgram)
}

func runProgram(t *testing.T, program []byte) {
	next := func() (b int) { // zeros after the end
		if len(program) > 0 {
			b, program = int(program[0]), program[1:]
		}
		return b
	}
	limits := []int{0, 1, 6000, 20_000, 300_000}
	m := &model{t: t, limit: limits[next()%len(limits)], tracks: 1 + next()%3}
	m.start = int64(next() % 3 * 1000)
	m.log = framelog.New(m.limit, m.tracks, m.start)
	m.end, m.entries = m.start, []entry{{framelog.Position{Offset: m.start - 1}, m.start != 0}}
	offset := func() int64 { // near the log's bounds, or in between
		return m.start - 2 + int64(next()<<8|next())%(m.end-m.start+5)
	}
	for len(program) > 0 {
		switch next() % 10 {
		default:
			m.append(int64(next()), false, next(), next())
		case 3:
			m.skip(int64(next()))
		case 4:
			m.read(next()%m.tracks, offset(), offset())
		case 5:
			m.newestBefore(next()-1, m.end)
		case 6:
			m.locate(offset(), next()%4 == 0)
		case 7:
			m.preceding(offset())
		case 8:
			m.append(int64(next()%9*4), true, 0, 0)
		case 9:
			m.newestBefore(next()-1, offset())
		}
	}
	for track := range m.tracks {
		m.read(track, m.start-1, m.end+1)
		m.read(track, m.start, m.end)
	}
}

// A model is what the log should be: everything that was ever appended, and where the log now says
// that it starts.
type model struct {
	t             *testing.T
	log           *framelog.Log
	limit, tracks int
	entries       []entry // the first is directly before the log's first start
	start, end    int64
}

// An entry is a record, or says that records up to its offset are missing.
type entry struct {
	framelog.Position
	gap bool
}

// frame returns what stands in a track for e; its length is hidden in the sum.
func frame(e entry, track int) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.Offset))
	b[8] = byte(track)
	n := int(e.Sum >> (8 * track) & 0xff)
	n = n * n / 6
	return bytes.Repeat(b[:], n/len(b)+1)[:n]
}

func (m *model) append(hole int64, gap bool, size1, size2 int) {
	if hole%4 != 0 {
		hole = 0
	}
	e := entry{framelog.Position{Offset: m.end + hole, Sum: uint32(size1 | size2<<8 | (size1^size2)<<16)}, gap}
	frames := make([][]byte, m.tracks)
	for track := range frames {
		frames[track] = frame(e, track)
	}
	if gap {
		m.log.AppendGap(e.Offset+1, frames...)
	} else {
		m.log.Append(e.Position, frames...)
	}
	for _, f := range frames {
		clear(f) // the log has its own copy
	}
	m.entries, m.end = append(m.entries, e), e.Offset+1
	m.bounds()
}

func (m *model) skip(hole int64) {
	if len(m.entries) > 1 {
		return
	}
	e := framelog.Position{Offset: m.end + hole, Sum: uint32(hole)*2654435761 | 1}
	m.log.Skip(e)
	m.entries[0], m.end = entry{e, false}, e.Offset+1
	m.bounds()
}

// bounds checks the bounds and the size, and that the log let go of no more than it had to.
func (m *model) bounds() {
	start, end := m.log.Bounds()
	if start < m.start || end != m.end {
		m.t.Fatalf("from %d to %d, want from %d or later to %d", start, end, m.start, m.end)
	}
	m.start = start
	if before := m.known()[0]; before.Offset+1 != start {
		m.t.Fatalf("start is %d, which follows no entry (%v)", start, before)
	}
	size, n := m.log.Size()
	if want := len(m.inLog()); n != want || n == 0 && len(m.entries) > 1 {
		m.t.Fatalf("%d entries, want %d, and the newest in any case", n, want)
	}
	// One chunk may be larger than the limit: a 64th of it or 4 KiB, and one entry, doubled by
	// the spare capacity of a growing slice.
	const largest = 3 * 255 * 255 / 6
	if most := max(m.limit, 2*(max(m.limit/64, 4096)+largest+100)); size > most {
		m.t.Fatalf("%d bytes with limit %d", size, m.limit)
	}
}

// known is what is in the log, after the entry directly before its start.
func (m *model) known() []entry {
	i, _ := slices.BinarySearchFunc(m.entries, m.start, func(e entry, offset int64) int { return cmp.Compare(e.Offset, offset) })
	return m.entries[i-1:]
}

func (m *model) inLog() []entry { return m.known()[1:] }

// read reads from from to to, in as many pieces as the log makes of it.
func (m *model) read(track int, from, to int64) {
	var want, got []byte
	count := 0
	for _, e := range m.inLog() {
		if from <= e.Offset && e.Offset < to {
			want = append(want, frame(e, track)...)
			count++
		}
	}
	at := from
	for {
		frames, n, next, err := m.log.Read(track, at, to)
		switch {
		case at < m.start && errors.Is(err, framelog.ErrEvicted) && frames == nil && n == 0 && next == at:
			return
		case at < m.start || err != nil:
			m.t.Fatalf("Read(%d, %d, %d) = %d bytes, %d, %d, %v; the log starts at %d", track, at, to, len(frames), n, next, err, m.start)
		case cap(frames) > len(frames):
			m.t.Fatal("whoever appends to what Read returned writes into the log")
		}
		got = append(got, frames...)
		count -= n
		if next == at {
			break
		}
		if next < at || next > to {
			m.t.Fatalf("Read(%d, %d, %d) goes on at %d", track, at, to, next)
		}
		at = next
	}
	if reached := max(from, min(to, m.end)); at != reached || !bytes.Equal(got, want) || count != 0 {
		m.t.Fatalf("reading %d to %d of track %d ended at %d, want %d: %d bytes, want %d; %d entries too few",
			from, to, track, at, reached, len(got), len(want), count)
	}
}

func (m *model) newestBefore(n int, offset int64) {
	from, found := m.log.NewestBefore(n, offset)
	if newest := m.log.Newest(n); offset == m.end && newest != from {
		m.t.Fatalf("Newest(%d) = %d, want %d", n, newest, from)
	}
	count, all := 0, 0
	for _, e := range m.inLog() {
		if e.Offset < offset {
			all++
			if from <= e.Offset {
				count++
			}
		}
	}
	if found != count || found != min(max(n, 0), all) || found < n && from != m.start {
		m.t.Fatalf("NewestBefore(%d, %d) = %d, %d; from there are %d, and in all %d", n, offset, from, found, count, all)
	}
}

// locate asks for the entry at offset, or, if it is to be wrong, for another with that offset.
func (m *model) locate(offset int64, wrong bool) {
	asked, want := framelog.Position{Offset: offset}, framelog.Elsewhere
	known := m.known()
	at := slices.IndexFunc(known, func(e entry) bool { return e.Offset >= offset })
	if at >= 0 && known[at].Offset == offset {
		asked = known[at].Position
	}
	if wrong {
		asked.Sum++
	}
	switch {
	case offset >= m.end:
		want = framelog.Ahead
	case offset < known[0].Offset, at == 0 && known[0].gap:
		want = framelog.Before
	case known[at].gap:
		want = framelog.InGap
	case known[at].Offset == offset && !wrong:
		want = framelog.Here
	}
	if got := m.log.Locate(asked); got != want {
		m.t.Fatalf("Locate(%v) = %v, want %v", asked, got, want)
	}
}

func (m *model) preceding(offset int64) {
	want := entry{gap: true}
	for _, e := range m.known() {
		if e.Offset < offset {
			want = e
		}
	}
	got, ok := m.log.Preceding(offset)
	if ok == want.gap || ok && got != want.Position {
		m.t.Fatalf("Preceding(%d) = %v, %v, want %v", offset, got, ok, want)
	}
}
