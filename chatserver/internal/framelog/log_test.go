package framelog_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"kafkachat/chatserver/internal/framelog"
)

// The log is compared with a plain slice that keeps everything. The program, a string of bytes, says
// what to do.
func FuzzLogIsASliceWhoseStartMoves(f *testing.F) {
	f.Add([]byte("\x02\x05\x01\x04\x09\x00\x00\x00\x01\x80\x05\x00\x07\x00\x02\x08\x00\x03"))
	for seed := range 100 {
		program := make([]byte, 3+30*seed)
		rand.NewChaCha8([32]byte{byte(seed)}).Read(program)
		f.Add(program)
	}
	f.Fuzz(run)
}

func run(t *testing.T, program []byte) {
	next := func() (b int) { // zeros after the end
		if len(program) > 0 {
			b, program = int(program[0]), program[1:]
		}
		return b
	}
	limit, tracks, start := []int{0, 1, 6000, 20_000, 300_000}[next()%5], 1+next()%3, int64(next()%3*1000)
	before := entry{framelog.Position{Offset: start - 1}, start != 0}
	m := &model{t, framelog.New(limit, tracks, start), limit, tracks, []entry{before}, start, start, nil}
	offset := func() int64 { // near the log's bounds, or in between
		return m.start - 2 + int64(next()<<8|next())%(m.end-m.start+5)
	}
	for len(program) > 0 {
		switch next() % 10 {
		default:
			m.append(max(0, int64(next())-192), false, uint32(next()<<16|next()<<8|next()))
		case 3:
			if len(m.entries) == 1 {
				m.skip(int64(next()))
			}
		case 4:
			m.read(next()%m.tracks, offset(), offset())
		case 6:
			m.locate(offset(), next()%4 == 0)
		case 7:
			m.preceding(offset())
		case 8:
			m.append(int64(next()%9*4), true, 0)
		case 5, 9:
			m.newestBefore(next()-1, offset())
		}
	}
	for track := range m.tracks {
		m.read(track, m.start, m.end+1)
	}
	for _, k := range m.kept {
		if !bytes.Equal(k[0], k[1]) {
			t.Fatal("bytes that a reader was given have changed")
		}
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
	kept          [][2][]byte // what Read returned, and a copy
}

// An entry is a record, or says that records up to its offset are missing.
type entry struct {
	framelog.Position
	gap bool
}

// frame returns what stands in a track for e; its length is hidden in the sum.
func frame(e entry, track int) []byte {
	n := int(e.Sum >> (8 * track) & 0xff)
	return bytes.Repeat([]byte{byte(e.Offset), byte(e.Offset >> 8), byte(track)}, n*n/18)
}

func (m *model) append(hole int64, gap bool, sum uint32) {
	e := entry{framelog.Position{Offset: m.end + hole, Sum: sum}, gap}
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
	e := framelog.Position{Offset: m.end + hole, Sum: uint32(hole) + 1}
	m.log.Skip(e)
	m.entries[0], m.end = entry{e, false}, e.Offset+1
	m.bounds()
}

// bounds checks the bounds and the size, and that the log let go of no more than it had to.
func (m *model) bounds() {
	start, end := m.log.Bounds()
	was := m.start
	m.start = start
	known := m.before(end)
	if start < was || known[0].Offset+1 != start || end != m.end {
		m.t.Fatalf("from %d to %d, want from %d or later, after an entry, to %d", start, end, was, m.end)
	}
	size, n := m.log.Size()
	if want := len(known) - 1; n != want || n == 0 && len(m.entries) > 1 {
		m.t.Fatalf("%d entries, want %d, and the newest in any case", n, want)
	}
	// One chunk may be larger than the limit: a 64th of it or 4 KiB, and one entry, doubled by
	// the spare capacity of a growing slice.
	const largest = 3 * 255 * 255 / 6
	if most := max(m.limit, 2*(max(m.limit/64, 4096)+largest+100)); size > most {
		m.t.Fatalf("%d bytes with limit %d", size, m.limit)
	}
}

// before returns what the log knows before offset: the entry directly before its start, and those in it.
func (m *model) before(offset int64) []entry {
	search := func(entries []entry, offset int64) int {
		return sort.Search(len(entries), func(i int) bool { return entries[i].Offset >= offset })
	}
	known := m.entries[search(m.entries, m.start)-1:]
	return known[:search(known, offset)]
}

// read reads from from to to, in as many pieces as the log makes of it.
func (m *model) read(track int, from, to int64) {
	var want, got []byte
	count := 0
	for _, e := range m.before(max(from, to))[len(m.before(from)):] {
		want = append(want, frame(e, track)...)
		count++
	}
	at := from
	for {
		frames, n, next, err := m.log.Read(track, at, to)
		switch {
		case at < m.start && err == framelog.ErrEvicted && frames == nil && n == 0 && next == at:
			return
		case at < m.start || err != nil || next < at || next > max(at, to):
			m.t.Fatalf("Read(%d, %d, %d) = %d bytes, %d, %d, %v; the log starts at %d", track, at, to, len(frames), n, next, err, m.start)
		case cap(frames) > len(frames):
			m.t.Fatal("whoever appends to what Read returned writes into the log")
		}
		got = append(got, frames...)
		m.kept = append(m.kept, [2][]byte{frames, got[len(got)-len(frames):]})
		count -= n
		if next == at {
			break
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
	all := max(1, len(m.before(offset))) - 1
	count := all + 1 - len(m.before(from))
	if found != count || found != min(max(n, 0), all) || found < n && from != m.start || offset == m.end && m.log.Newest(n) != from {
		m.t.Fatalf("NewestBefore(%d, %d) = %d, %d; from there are %d, and in all %d", n, offset, from, found, count, all)
	}
}

// locate asks for the entry at offset, or, if it is to be wrong, for another with that offset.
func (m *model) locate(offset int64, wrong bool) {
	asked, want := framelog.Position{Offset: offset}, framelog.Elsewhere
	known, at := m.before(m.end), len(m.before(offset))
	if at < len(known) && known[at].Offset == offset {
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
	if before := m.before(offset); len(before) > 0 {
		want = before[len(before)-1]
	}
	got, ok := m.log.Preceding(offset)
	if ok == want.gap || ok && got != want.Position {
		m.t.Fatalf("Preceding(%d) = %v, %v, want %v", offset, got, ok, want)
	}
}

func TestMisuseIsRefused(t *testing.T) {
	log := framelog.New(1<<20, 1, 0)
	log.Append(framelog.Position{Offset: 5}, nil)
	for name, misuse := range map[string]func(){
		"out of order":      func() { log.Append(framelog.Position{Offset: 4}, nil) },
		"a frame too many":  func() { log.Append(framelog.Position{Offset: 9}, nil, nil) },
		"skip after append": func() { log.Skip(framelog.Position{Offset: 9}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse()
		})
	}
}

// The memory of a log is what the log says, and most of it holds frames, whatever their sizes are.
func TestMemoryIsBoundedAndUsed(t *testing.T) {
	const limit, more = 4 << 20, 70 // more is how many bytes a frame of track 1 has more than that of track 0
	for name, size := range map[string]func(i int) int{
		"small":               func(int) int { return 30 },
		"larger than a chunk": func(int) int { return limit / 40 },
		"one of 16 is large":  func(i int) int { return 100 + i%16/15*100_000 },
		"ever larger":         func(i int) int { return i / 10 },
	} {
		t.Run(name, func(t *testing.T) {
			frame := make([]byte, limit)
			before := heap()
			log := framelog.New(limit, 2, 0)
			for i, written := 0, 0; written < 4*limit; i++ {
				n := size(i)
				log.Append(framelog.Position{Offset: int64(i)}, frame[:n], frame[:n+more])
				written += 2*n + more
			}
			says, _ := log.Size()
			if held := heap() - before; held > says+says/8 || says > limit {
				t.Errorf("holds %d bytes, and says %d; the limit is %d", held, says, limit)
			}
			used := 0
			for at, end := log.Bounds(); at < end; {
				frames, n, next, _ := log.Read(0, at, end)
				used += 2*len(frames) + n*more
				at = next
			}
			if used < limit/2 {
				t.Errorf("only %d of %d bytes are frames", used, limit)
			}
			runtime.KeepAlive(frame)
		})
	}
}

func heap() int {
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	return int(memory.HeapAlloc)
}

// While the log grows and forgets, readers at all distances from the end get the frames of their
// track, in order. A frame is its offset and its track.
func TestReadersBesideTheAppender(t *testing.T) {
	const appends = 60_000
	log := framelog.New(200<<10, 2, 0)
	var done atomic.Bool
	var read atomic.Int64
	var readers sync.WaitGroup
	for r := range 8 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 2))
			for at, i := int64(0), 0; !done.Load(); i++ {
				start, end := log.Bounds()
				switch {
				case at < start || rng.IntN(50) == 0:
					at = start + rng.Int64N(end-start+1)
				case r < 4:
					at = max(at, end-3) // nearly at the end, where the log grows
				}
				frames, n, next, err := log.Read(r%2, at, end-int64(rng.IntN(2)))
				if err != nil { // the log has moved on
					continue
				}
				if len(frames) != 8*n {
					t.Errorf("%d bytes for %d frames", len(frames), n)
				}
				for frame := range slices.Chunk(frames, 8) {
					word := int64(binary.BigEndian.Uint64(frame))
					if word>>1 < at || word&1 != int64(r%2) {
						t.Errorf("a frame that is changed, of another track, or before %d: %x", at, frame)
					}
					at = word>>1 + 1
				}
				read.Add(int64(n))
				at = next
				if n == 0 || i%8 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for n, offset := 0, int64(0); n < appends || read.Load() < appends/10; n++ {
		word := binary.BigEndian.AppendUint64(nil, uint64(offset<<1))
		log.Append(framelog.Position{Offset: offset}, word, append(word[:7:7], word[7]|1))
		offset += 1 + rng.Int64N(3)
	}
	done.Store(true)
	readers.Wait()
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"", "0.00000000", "-1.00000000", "-2.00000000", "9223372036854775808.ffffffff", "1", "1.",
		".00000000", "1.0000000", "1.0000000g", "1.+0000000", "+1.00000000", "0x1.00000000", " 1.00000000", "1.00000000\x00"} {
		f.Add(s, int64(len(s))<<55, uint32(len(s))<<27)
	}
	f.Fuzz(func(t *testing.T, s string, offset int64, sum uint32) {
		if p, err := framelog.ParsePosition(s); err == nil {
			if p.String() != s || p.Offset < -1 {
				t.Errorf("%q is read as %v", s, p)
			}
		} else if p != (framelog.Position{}) || !utf8.ValidString(err.Error()) || len(err.Error()) > 300 {
			t.Errorf("%q: %v, %q", s, p, err)
		}
		want := framelog.Position{Offset: max(offset, -1), Sum: sum}
		if got, err := framelog.ParsePosition(want.String()); err != nil || got != want {
			t.Errorf("%v is read as %v, %v", want, got, err)
		}
	})
}
