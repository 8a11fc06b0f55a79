package ops_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/ops"
)

func TestUpWhenAllAreWell(t *testing.T) {
	t.Parallel()
	var said []bool
	h := ops.NewHealth(func(up bool) { said = append(said, up) }, "consumer", "probe")
	steps := []struct {
		part     string
		well, up bool
	}{
		{"consumer", true, false},
		{"probe", false, false},
		{"probe", true, true},
		{"probe", true, true},
		{"producer", true, true}, // a part that nobody waited for
		{"producer", false, false},
		{"consumer", false, false},
		{"producer", true, false},
		{"consumer", true, true},
	}
	if h.Up() {
		t.Error("up before anybody has said so")
	}
	for i, s := range steps {
		h.Set(s.part, s.well)
		if h.Up() != s.up {
			t.Fatalf("step %d, %s well is %v: up is %v", i, s.part, s.well, h.Up())
		}
	}
	if want := []bool{true, false, true}; !slices.Equal(said, want) {
		t.Errorf("told %v, want %v", said, want)
	}
}

// A slow listener is told the truth last, whatever has happened meanwhile.
func TestToldLastIsHowThingsAre(t *testing.T) {
	t.Parallel()
	telling, goOn := make(chan bool, 10), make(chan struct{})
	h := ops.NewHealth(func(up bool) {
		telling <- up
		<-goOn
	}, "consumer")
	var sets sync.WaitGroup
	sets.Go(func() { h.Set("consumer", true) })
	if !<-telling {
		t.Fatal("told that it is down")
	}
	sets.Go(func() { h.Set("consumer", false) })
	for deadline := time.Now().Add(10 * time.Second); h.Up() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // until the listener can only be told late
	}
	close(goOn)
	sets.Wait()
	close(telling)
	last := true
	for up := range telling {
		last = up
	}
	if last || h.Up() {
		t.Errorf("told last that up is %v, and it is %v", last, h.Up())
	}
}

func TestManyParts(t *testing.T) {
	t.Parallel()
	last := false
	h := ops.NewHealth(func(up bool) { last = up }) // the race detector watches that calls do not overlap
	var parts sync.WaitGroup
	for _, part := range []string{"a", "b", "c", "d"} {
		parts.Go(func() {
			for i := range 2000 {
				h.Set(part, i%3 != 0)
			}
			h.Set(part, true)
		})
	}
	parts.Wait()
	if !last || !h.Up() {
		t.Errorf("told last that up is %v, and it is %v", last, h.Up())
	}
}
