package framelog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"kafkachat/chatserver/internal/framelog"
)

func Example() {
	log := framelog.New(1<<20, 1, 0)
	log.Append(framelog.Position{Offset: 3}, []byte("one "))
	log.Append(framelog.Position{Offset: 7}, []byte("two "))
	log.Append(framelog.Position{Offset: 8}, []byte("three "))

	_, end := log.Bounds()
	for from := log.Newest(2); from < end; {
		frames, n, next, err := log.Read(0, from, end)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q: %d entries, goes on at %d\n", frames, n, next)
		from = next
	}
	// Output: "two three ": 2 entries, goes on at 9
}

func TestMisuseIsRefused(t *testing.T) {
	for name, misuse := range map[string]func(*framelog.Log){
		"out of order":      func(l *framelog.Log) { l.Append(framelog.Position{Offset: 4}, nil) },
		"a frame too many":  func(l *framelog.Log) { l.Append(framelog.Position{Offset: 9}, nil, nil) },
		"skip after append": func(l *framelog.Log) { l.Skip(framelog.Position{Offset: 9}) },
	} {
		t.Run(name, func(t *testing.T) {
			log := framelog.New(1<<20, 1, 0)
			log.Append(framelog.Position{Offset: 5}, nil)
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			misuse(log)
		})
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
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			log := framelog.New(limit, 2, 0)
			frame := make([]byte, 1<<20)
			content := []int{}
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
			content, frame = nil, nil
			runtime.GC()
			runtime.ReadMemStats(&after)
			held := int(after.HeapAlloc) - int(before.HeapAlloc)
			t.Logf("limit %d: says %d, holds %d on the heap, of that %d in %d frames", limit, bytes, held, used, entries)
			if held > bytes+bytes/8 {
				t.Errorf("holds %d bytes, and says %d", held, bytes)
			}
			if used < limit/2 {
				t.Errorf("only %d of %d bytes are frames", used, limit)
			}
			runtime.KeepAlive(log)
		})
	}
}

// Each frame begins with a checksum of the rest. Readers at all distances from the end check it
// when they get a frame, and again long after it was evicted.
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
			var at int64
			for i := 0; !done.Load(); i++ {
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
				if got := checkFrames(t, frames, at, track); got != n {
					t.Errorf("%d frames, want %d", got, n)
				}
				read.Add(int64(n))
				at = next
				slot := &kept[rng.IntN(len(kept))]
				checkFrames(t, *slot, 0, track)
				*slot = frames
				if len(frames) == 0 || i%8 == 0 {
					runtime.Gosched()
				}
			}
			for _, frames := range kept {
				checkFrames(t, frames, 0, track)
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 3))
	scratch := [2][]byte{}
	offset := int64(0)
	for range appends {
		for track := range scratch {
			scratch[track] = appendChecked(scratch[track][:0], offset, track, rng.IntN(200))
		}
		log.Append(framelog.Position{Offset: offset}, scratch[0], scratch[1])
		offset += 1 + rng.Int64N(3)
	}
	done.Store(true)
	readers.Wait()
	if read.Load() < appends/10 {
		t.Error("the readers have hardly read")
	}
}

// A checked frame: length of the rest (1 byte), track, offset (8), filling, checksum of all (4).
func appendChecked(b []byte, offset int64, track, filling int) []byte {
	begin := len(b)
	b = append(b, byte(9+filling), byte(track))
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = append(b, bytes.Repeat([]byte{byte(offset)}, filling)...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[begin:]))
}

// checkFrames checks that b consists of whole, unchanged frames of track, in order, none before
// offset from, and returns how many.
func checkFrames(t *testing.T, b []byte, from int64, track int) (n int) {
	for ; len(b) > 0; n++ {
		end := 1 + int(b[0])
		if len(b) < end+4 || int(b[1]) != track || binary.BigEndian.Uint32(b[end:]) != crc32.ChecksumIEEE(b[:end]) {
			t.Errorf("a frame that is cut, changed, or of another track: % x", b[:min(len(b), 20)])
			return n
		}
		offset := int64(binary.BigEndian.Uint64(b[2:]))
		if offset < from {
			t.Errorf("offset %d after %d", offset, from)
		}
		from = offset + 1
		b = b[end+4:]
	}
	return n
}
