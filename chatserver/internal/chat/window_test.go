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
	ids, holes, offset := 1+rng.IntN(60), 1+rng.Int64N(5), rng.Int64N(1000)
	for i := range log {
		if offset += 1 + rng.Int64N(holes); rng.IntN(20) == 0 {
			offset += rng.Int64N(100) // a stretch of records without ids
		}
		log[i].offset, log[i].id = offset, fmt.Sprintf("id-%d", rng.IntN(ids))
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

// A pod finds the copies among the records that it has read. Soon these are the copies of the whole log, wherever
// the pod started.
func TestWindowIsAFunctionOfTheLog(t *testing.T) {
	copies, late := 0, 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 4))
		whole, size := randomLog(rng), 1+rng.Int64N(80)
		for pod := range 8 {
			start := rng.IntN(len(whole)) * min(pod, 1) // the first pod has the whole log
			log, window := whole[start:], NewWindow(size)
			for i, r := range log {
				shown, isCopy := window.Add(r.id, r.offset)
				if wantShown, want := log.copyOf(i, size); isCopy != want || shown != wantShown {
					t.Fatalf("seed %d, window %d: Add at %d = %d, %v, want %d, %v", seed, size, r.offset, shown, isCopy, wantShown, want)
				}
				switch _, everywhere := whole.copyOf(start+i, size); {
				case isCopy:
					copies++
				case everywhere && r.offset-log[0].offset >= size:
					t.Fatalf("seed %d, window %d: the pod that starts at %d shows the copy at %d", seed, size, log[0].offset, r.offset)
				case everywhere:
					late++
				}
				// Find says what Add would say of a record that came next.
				asked := log[rng.IntN(i+1)].id
				want, wantOK := append(log[:i+1:i+1], topicLog{{r.offset + 1, asked}}...).copyOf(i+1, size)
				if got, ok := window.Find(asked); ok != wantOK || ok && got != want {
					t.Fatalf("seed %d, window %d: Find(%s) after %d = %d, %v, want %d, %v", seed, size, asked, r.offset, got, ok, want, wantOK)
				}
				if int64(len(window.ids)) > size+1 || int64(cap(window.queue)) > 4*size+8 {
					t.Fatalf("a window of %d offsets holds %d ids and a queue of %d", size, len(window.ids), cap(window.queue))
				}
			}
		}
	}
	if copies == 0 || late == 0 {
		t.Errorf("the logs do not try the window: %d copies, and %d times a pod started too late to know of the first", copies, late)
	}
}
