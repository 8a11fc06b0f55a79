package framelog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"kafkachat/chatserver/internal/framelog"
)

func TestMisuseIsRefused(t *testing.T) {
	for name, misuse := range map[string]func(*framelog.Log){
		"out of order":      func(l *framelog.Log) { l.Append(framelog.Position{Offset: 4}, nil) },
		"a frame too many":  func(l *framelog.Log) { l.Append(framelog.Position{Offset: 9}, nil, nil) },
		"skip after append": func(l *framelog.Log) { l.Skip(framelog.Position{Offset: 9}) },
	} {
		log := framelog.New(1<<20, 1, 0)
		log.Append(framelog.Position{Offset: 5}, nil)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse(log)
		}()
	}
}

// The memory of a log is what it says, and what it may use is used for frames, whatever their
// sizes are.
func TestMemoryIsBoundedAndUsed(t *testing.T) {
	const limit = 4 << 20
	for name, size := range map[string]func(i int) int{
		"small":               func(int) int { return 30 },
		"chat":                func(i int) int { return 100 + i%100 },
		"large":               func(int) int { return 20_000 },
		"larger than a chunk": func(int) int { return limit / 40 },
		"one of 16 is large":  func(i int) int { return 100 + i%16/15*100_000 },
		"one of 2 is large":   func(i int) int { return 100 + i%2*100_000 },
		"ever larger":         func(i int) int { return i / 10 },
	} {
		t.Run(name, func(t *testing.T) {
			frame := make([]byte, limit)
			content := make([]int, 0, 4*limit/100) // a frame's bytes by offset
			before := heap()
			log := framelog.New(limit, 2, 0)
			for i, written := 0, 0; written < 4*limit; i++ {
				n := size(i)
				log.Append(framelog.Position{Offset: int64(i)}, frame[:n], frame[:n+70])
				content = append(content, 2*n+70)
				written += 2*n + 70
				if bytes, _ := log.Size(); bytes > limit {
					t.Fatalf("%d bytes, the limit is %d", bytes, limit)
				}
			}
			bytes, entries := log.Size()
			used := 0
			for _, n := range content[len(content)-entries:] {
				used += n
			}
			if held := heap() - before; held > bytes+bytes/8 {
				t.Errorf("holds %d bytes, and says %d", held, bytes)
			}
			if used < limit/2 {
				t.Errorf("only %d of %d bytes are frames", used, limit)
			}
			runtime.KeepAlive(content)
			runtime.KeepAlive(frame)
			runtime.KeepAlive(log)
		})
	}
}

func heap() int {
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	return int(memory.HeapAlloc)
}

// Each frame says what it holds. Readers at all distances from the end check a frame when they get
// the frame, and again long after it was evicted.
func TestFramesNeverChange(t *testing.T) {
	const appends = 60_000
	log := framelog.New(200<<10, 2, 0)
	var done atomic.Bool
	var read atomic.Int64
	var readers sync.WaitGroup
	for r := range 8 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 2))
			track := r % 2
			kept := make([][]byte, 64)
			for at, i := int64(0), 0; !done.Load(); i++ {
				start, end := log.Bounds()
				switch {
				case at < start || rng.IntN(50) == 0:
					at = start + rng.Int64N(end-start+1)
				case r < 4:
					at = max(at, end-3) // nearly at the end, where the log grows
				}
				frames, n, next, err := log.Read(track, at, end-int64(rng.IntN(2)))
				if errors.Is(err, framelog.ErrEvicted) {
					continue
				}
				if got := checkWords(t, frames, at, track); got != n {
					t.Errorf("%d frames, want %d", got, n)
				}
				read.Add(int64(n))
				at = next
				slot := &kept[rng.IntN(len(kept))]
				checkWords(t, *slot, 0, track)
				*slot = frames
				if len(frames) == 0 || i%8 == 0 {
					runtime.Gosched()
				}
			}
			for _, frames := range kept {
				checkWords(t, frames, 0, track)
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for n, offset := 0, int64(0); n < appends || read.Load() < appends/10; n++ {
		log.Append(framelog.Position{Offset: offset}, words(offset, 0), words(offset, 1))
		offset += 1 + rng.Int64N(3)
	}
	done.Store(true)
	readers.Wait()
}

// words is a frame of 1 to 25 words, all alike: the offset and the track.
func words(offset int64, track int) []byte {
	word := binary.BigEndian.AppendUint64(nil, uint64(offset<<1)|uint64(track))
	return bytes.Repeat(word, 1+int(offset*7%25))
}

// checkWords checks that b consists of whole, unchanged frames of track, in order, none before
// offset from, and returns how many.
func checkWords(t *testing.T, b []byte, from int64, track int) (n int) {
	for ; len(b) > 0; n++ {
		offset := int64(binary.BigEndian.Uint64(b) >> 1)
		want := words(offset, track)
		if offset < from || !bytes.HasPrefix(b, want) {
			t.Errorf("a frame that is cut, changed, of another track, or before %d: % x", from, b[:8])
			return n
		}
		from, b = offset+1, b[len(want):]
	}
	return n
}
