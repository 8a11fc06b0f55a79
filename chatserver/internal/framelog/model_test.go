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

func TestLogIsASliceWhoseStartMoves(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		program := make([]byte, 3+rng.IntN(3000))
		for i := range program {
			program[i] = byte(rng.Uint32())
		}
		if !t.Run("", func(t *testing.T) { runProgram(t, program) }) {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzLogIsASliceWhoseStartMoves(f *testing.F) {
	f.Add([]byte("\x00\x00\x00"))
	f.Add([]byte("\x02\x05\x01\x04\x09\x00\x00\x00\x01\x80\x05\x00\x07\x00\x02\x08\x00\x03"))
	f.Add(bytes.Repeat([]byte("\x03\xff\xff\x06\x10\x05\x02\x04"), 60))
	f.Fuzz(runProgram)
}

func runProgram(t *testing.T, program []byte) {
	p := &reader{program}
	limits := []int{0, 1, 6000, 20_000, 300_000}
	m := &model{t: t, gaps: make(map[int64]bool), limit: limits[p.next()%len(limits)], tracks: 1 + p.next()%3}
	m.first = int64(p.next() % 3 * 1000)
	m.log = framelog.New(m.limit, m.tracks, m.first)
	m.start, m.end = m.first, m.first
	for len(p.rest) > 0 {
		switch p.next() % 10 {
		default:
			m.append(int64(p.next()), p.next(), p.next())
		case 3:
			m.skip(int64(p.next()))
		case 4:
			m.read(p.next()%m.tracks, m.offset(p), m.offset(p))
		case 5:
			m.newestBefore(p.next()-1, m.end)
		case 6:
			m.locate(m.offset(p), p.next()%4 == 0)
		case 7:
			m.preceding(m.offset(p))
		case 8:
			m.gap(int64(p.next() % 9))
		case 9:
			m.newestBefore(p.next()-1, m.offset(p))
		}
	}
	for track := range m.tracks {
		m.read(track, m.first-1, m.end+1)
		start, end := m.log.Bounds()
		m.read(track, start, end)
	}
}

// A reader hands out the bytes of a program, and zeros after its end.
type reader struct{ rest []byte }

func (p *reader) next() int {
	if len(p.rest) == 0 {
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return int(b)
}

// A model is what the log should be: everything that was ever appended or skipped, and where
// the log now says that it starts.
type model struct {
	t             *testing.T
	log           *framelog.Log
	limit, tracks int
	first         int64 // the log was made to start there
	end           int64
	entries       []framelog.Position // appended
	gaps          map[int64]bool      // which of them are gaps
	skipped       *framelog.Position  // the last
	start         int64               // when last looked at
}

// offset returns one near the log's bounds, or in between.
func (m *model) offset(p *reader) int64 {
	start, end := m.log.Bounds()
	return start - 2 + int64(p.next()<<8|p.next())%(end-start+5)
}

func sum(offset int64) uint32 { return uint32(offset*2654435761) | 1 }

// frame returns what stands in a track for e; its length is hidden in the sum.
func frame(e framelog.Position, track int) []byte {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.Offset))
	b[8] = byte(track)
	n := int(e.Sum >> (8 * track) & 0xff)
	n = n * n / 6
	return bytes.Repeat(b[:], n/len(b)+1)[:n]
}

func (m *model) append(hole int64, size1, size2 int) {
	if hole%4 != 0 {
		hole = 0
	}
	e := framelog.Position{Offset: m.end + hole, Sum: uint32(size1 | size2<<8 | (size1^size2)<<16)}
	frames := make([][]byte, m.tracks)
	for track := range frames {
		frames[track] = frame(e, track)
	}
	m.log.Append(e, frames...)
	for _, f := range frames {
		clear(f) // the log has its own copy
	}
	m.entries = append(m.entries, e)
	m.end = e.Offset + 1
	m.bounds()
}

// gap appends a gap of one record and more.
func (m *model) gap(missing int64) {
	e := framelog.Position{Offset: m.end + missing}
	m.log.AppendGap(e.Offset+1, make([][]byte, m.tracks)...)
	m.entries = append(m.entries, e)
	m.gaps[e.Offset] = true
	m.end = e.Offset + 1
	m.bounds()
}

func (m *model) skip(hole int64) {
	if len(m.entries) > 0 {
		return
	}
	m.skipped = &framelog.Position{Offset: m.end + hole, Sum: sum(hole)}
	m.log.Skip(*m.skipped)
	m.end = m.skipped.Offset + 1
	m.bounds()
}

// bounds checks the bounds and the size, and that the log let go of no more than it had to.
func (m *model) bounds() {
	start, end := m.log.Bounds()
	before := m.before(start)
	switch {
	case end != m.end:
		m.t.Fatalf("end is %d, want %d", end, m.end)
	case start < m.start:
		m.t.Fatalf("start went back from %d to %d", m.start, start)
	case before == nil && start != m.first && !m.gaps[start-1], before != nil && before.Offset+1 != start:
		m.t.Fatalf("start is %d, which follows no entry (%v)", start, before)
	}
	m.start = start
	size, n := m.log.Size()
	if want := len(m.inLog()); n != want {
		m.t.Fatalf("%d entries, want %d", n, want)
	}
	if n == 0 && len(m.entries) > 0 {
		m.t.Fatal("the newest entry was evicted")
	}
	// One chunk may be larger than the limit: a 64th of it or 4 KiB, and one entry, doubled by
	// the spare capacity of a growing slice.
	const largest = 3 * 255 * 255 / 6
	if most := max(m.limit, 2*(max(m.limit/64, 4096)+largest+100)); size > most {
		m.t.Fatalf("%d bytes with limit %d", size, m.limit)
	}
}

// before returns the record directly before start, nil if it is not known.
func (m *model) before(start int64) (before *framelog.Position) {
	if m.first == 0 {
		before = &framelog.Position{Offset: -1}
	}
	if m.skipped != nil {
		before = m.skipped
	}
	if i := m.index(start); i > 0 {
		before = &m.entries[i-1]
		if m.gaps[before.Offset] {
			return nil
		}
	}
	return before
}

// index returns the index of the first entry at or after offset.
func (m *model) index(offset int64) int {
	i, _ := slices.BinarySearchFunc(m.entries, offset, func(e framelog.Position, offset int64) int {
		return cmp.Compare(e.Offset, offset)
	})
	return i
}

func (m *model) inLog() []framelog.Position { return slices.Clip(m.entries[m.index(m.start):]) }

// read reads from from to to, in as many pieces as the log makes of it.
func (m *model) read(track int, from, to int64) {
	var want []byte
	count := 0
	for _, e := range m.inLog() {
		if from <= e.Offset && e.Offset < to {
			want = append(want, frame(e, track)...)
			count++
		}
	}
	var got []byte
	at := from
	for {
		frames, n, next, err := m.log.Read(track, at, to)
		if at < m.start {
			if !errors.Is(err, framelog.ErrEvicted) || frames != nil || n != 0 || next != at {
				m.t.Fatalf("Read(%d, %d, %d) = %d bytes, %d, %d, %v; want only %v", track, at, to, len(frames), n, next, err, framelog.ErrEvicted)
			}
			return
		}
		if err != nil {
			m.t.Fatalf("Read(%d, %d, %d): %v", track, at, to, err)
		}
		if cap(frames) > len(frames) {
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
	if reached := max(from, min(to, m.end)); at != reached {
		m.t.Fatalf("reading %d to %d ended at %d, want %d", from, to, at, reached)
	}
	if !bytes.Equal(got, want) || count != 0 {
		m.t.Fatalf("reading %d to %d of track %d: %d bytes, want %d; %d entries too few", from, to, track, len(got), len(want), count)
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
	e, there := framelog.Position{Offset: offset}, false
	for _, known := range append(m.inLog(), m.edge()...) {
		if known.Offset == offset {
			e, there = known, true
		}
	}
	if wrong {
		e.Sum++
	}
	want := framelog.Elsewhere
	switch {
	case there && !wrong:
		want = framelog.Here
	case there:
	case offset < m.start:
		want = framelog.Before
	case offset >= m.end:
		want = framelog.Ahead
	}
	if i := m.index(offset); offset >= m.start && i < len(m.entries) && m.gaps[m.entries[i].Offset] && !(there && !m.gaps[offset]) {
		want = framelog.InGap
	}
	if got := m.log.Locate(e); got != want {
		m.t.Fatalf("Locate(%v) = %v, want %v", e, got, want)
	}
}

// edge is the record directly before the start, if it is known.
func (m *model) edge() []framelog.Position {
	if before := m.before(m.start); before != nil {
		return []framelog.Position{*before}
	}
	return nil
}

func (m *model) preceding(offset int64) {
	var want *framelog.Position
	for _, e := range append(m.edge(), m.inLog()...) {
		if e.Offset < offset {
			want = &e
		}
	}
	if want != nil && m.gaps[want.Offset] {
		want = nil
	}
	got, ok := m.log.Preceding(offset)
	if ok != (want != nil) || ok && got != *want {
		m.t.Fatalf("Preceding(%d) = %v, %v, want %v", offset, got, ok, want)
	}
}
