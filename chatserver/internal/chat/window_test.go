package chat

import (
	"fmt"
	"math/rand/v2"
	"testing"
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
	copies, late := 0, 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 4))
		log := randomLog(rng)
		size := 1 + rng.Int64N(80)
		// Pods that start at any record: the first is the log's true beginning.
		for pod := range 8 {
			start := 0
			if pod > 0 {
				start = rng.IntN(len(log))
			}
			first := log[start].offset
			window := NewWindow(size)
			for i := start; i < len(log); i++ {
				offset := log[i].offset
				want, isCopy := log.copyOf(i, size)
				shown, got := window.Add(log[i].id, offset)
				switch {
				case got && !isCopy:
					t.Fatalf("seed %d: the pod that starts at %d hides offset %d, which others show", seed, first, offset)
				case got != isCopy && (start == 0 || offset-first >= size):
					t.Fatalf("seed %d, window %d: the pod that starts at %d shows the copy at %d", seed, size, first, offset)
				case got != isCopy:
					late++
				case start == 0 && shown != want:
					t.Fatalf("seed %d: offset %d is a copy of %d, want %d", seed, offset, shown, want)
				case shown < first || shown > offset || !got && shown != offset:
					t.Fatalf("seed %d: offset %d is a copy of %d, from %d on", seed, offset, shown, first)
				case got:
					copies++
				}
				if i%5 == 0 {
					checkFind(t, window, log[start:i+1], size)
				}
			}
		}
	}
	if copies == 0 || late == 0 {
		t.Errorf("the logs do not try the window: %d copies, and %d times a pod started too late to know of the first", copies, late)
	}
}

// checkFind asks, after the records of seen, for their ids: the answer is what Add would say of a
// record that came next.
func checkFind(t *testing.T, window *Window, seen topicLog, size int64) {
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
	const size = 1000
	w := NewWindow(size)
	for offset := range int64(20 * size) {
		w.Add(fmt.Sprint(offset), offset)
		if len(w.ids) > size+1 || cap(w.queue) > 4*size {
			t.Fatalf("a window of %d offsets holds %d ids and a queue of %d", size, len(w.ids), cap(w.queue))
		}
	}
}
