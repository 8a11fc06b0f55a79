package chat_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"kafkachat/chatserver/internal/chat"
)

// A topicLog is the records that have an id, in order, with holes between their offsets.
type topicLog []struct {
	offset int64
	id     string
}

// randomLog has many copies, at distances on both sides of the window.
func randomLog(rng *rand.Rand) topicLog {
	log := make(topicLog, 1+rng.IntN(300))
	ids := 1 + rng.IntN(60)
	holes := rng.IntN(5)
	offset := rng.Int64N(1000)
	for i := range log {
		offset += 1 + rng.Int64N(int64(holes)+1)
		if rng.IntN(20) == 0 {
			offset += rng.Int64N(100) // a stretch of records without ids
		}
		log[i].offset = offset
		log[i].id = fmt.Sprintf("id-%d", rng.IntN(ids))
	}
	return log
}

// copyOf says what the package promises: whether record i is a copy, and of which.
func (log topicLog) copyOf(i int, size int64) (shown int64, isCopy bool) {
	shown = log[i].offset
	for j := i - 1; j >= 0 && log[j].offset >= log[i].offset-size; j-- {
		if log[j].id == log[i].id {
			shown, _ = log.copyOf(j, size)
			return shown, true
		}
	}
	return shown, false
}

func TestWindowIsAFunctionOfTheLog(t *testing.T) {
	logs := 400
	if testing.Short() {
		logs = 50
	}
	copies, late := 0, 0
	for seed := range uint64(logs) {
		rng := rand.New(rand.NewPCG(seed, 4))
		log := randomLog(rng)
		size := 1 + rng.Int64N(80)
		isCopy := make([]bool, len(log)) // by definition
		shown := make([]int64, len(log))
		for i := range log {
			shown[i], isCopy[i] = log.copyOf(i, size)
			if isCopy[i] {
				copies++
			}
		}
		// Pods that start at any record: the first is the log's true beginning.
		for pod := range 8 {
			start := 0
			if pod > 0 {
				start = rng.IntN(len(log))
			}
			startOffset := log[start].offset
			window := chat.NewWindow(size)
			for i := start; i < len(log); i++ {
				offset := log[i].offset
				gotShown, got := window.Add(log[i].id, offset)
				switch {
				case got && !isCopy[i]:
					t.Fatalf("seed %d: the pod that starts at %d hides offset %d, which others show", seed, startOffset, offset)
				case got != isCopy[i] && (start == 0 || offset-startOffset >= size):
					t.Fatalf("seed %d, window %d: the pod that starts at %d shows the copy at %d", seed, size, startOffset, offset)
				case got != isCopy[i]:
					late++
				case start == 0 && gotShown != shown[i]:
					t.Fatalf("seed %d: offset %d is a copy of %d, want %d", seed, offset, gotShown, shown[i])
				case gotShown < startOffset || gotShown > offset || !got && gotShown != offset:
					t.Fatalf("seed %d: offset %d is a copy of %d, from %d on", seed, offset, gotShown, startOffset)
				}
				if i%5 == 0 {
					checkFind(t, window, log[start:i+1], size)
				}
			}
		}
	}
	t.Logf("%d copies; %d times a pod had started too late to know of the first", copies, late)
	if copies == 0 || late == 0 {
		t.Error("the logs do not try the window")
	}
}

// checkFind asks, after the records of seen, for their ids: the answer is what Add would say of a
// record that came next.
func checkFind(t *testing.T, window *chat.Window, seen topicLog, size int64) {
	t.Helper()
	next := seen[len(seen)-1].offset + 1
	asked := seen[len(seen)*int(next%7)/7].id
	want, wantOK := append(seen[:len(seen):len(seen)], topicLog{{next, asked}}...).copyOf(len(seen), size)
	got, ok := window.Find(asked)
	if ok != wantOK || ok && got != want {
		t.Fatalf("Find(%s) before offset %d = %d, %v, want %d, %v", asked, next, got, ok, want, wantOK)
	}
	if _, ok := window.Find("nobody"); ok {
		t.Fatal("found an id that nobody has")
	}
}

func TestWindowForgets(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	window := chat.NewWindow(1000)
	id := make([]byte, 0, 40)
	for offset := range int64(50_000) {
		id = fmt.Appendf(id[:0], "id-%020d", offset)
		if _, isCopy := window.Add(string(id), offset); isCopy {
			t.Fatalf("offset %d is no copy", offset)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > 1<<20 {
		t.Errorf("a window of 1000 ids holds %d bytes", held)
	}
	runtime.KeepAlive(window)
}
