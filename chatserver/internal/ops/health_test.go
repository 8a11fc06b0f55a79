package ops_test

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"kafkachat/chatserver/internal/ops"
)

var errAway = errors.New("away")

func TestUpWhenAllAreWell(t *testing.T) {
	t.Parallel()
	var told []error
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(why error) { told = append(told, why) }, "consumer", "ends")
	if h.Why() != ops.ErrUnknown {
		t.Errorf("before any report: %v", h.Why())
	}
	errRefused := errors.New("refused")
	for i, s := range []struct {
		part      string
		err, want error
	}{
		{"consumer", nil, ops.ErrUnknown},
		{"ends", errAway, errAway},
		{"ends", nil, nil},
		{"ends", nil, nil},
		{"producer", nil, nil}, // a part that nobody waited for
		{"producer", errRefused, errRefused},
		{"consumer", errAway, errAway}, // the first part's reason
		{"producer", nil, errAway},
		{"consumer", nil, nil},
	} {
		h.Report(s.part, s.err)
		if h.Why() != s.want {
			t.Fatalf("step %d, %s reports %v: %v, want %v", i, s.part, s.err, h.Why(), s.want)
		}
	}
	if want := []error{nil, errRefused, nil}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// A slow listener is told the truth last, whatever has happened meanwhile.
func TestToldLastIsHowThingsAre(t *testing.T) {
	t.Parallel()
	var told []error
	telling, goOn := make(chan struct{}, 2), make(chan struct{})
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(why error) {
		telling <- struct{}{}
		<-goOn
		told = append(told, why)
	}, "consumer")
	var reports sync.WaitGroup
	reports.Go(func() { h.Report("consumer", nil) })
	<-telling
	reports.Go(func() { h.Report("consumer", errAway) })
	for h.Why() == nil {
		time.Sleep(time.Millisecond) // until the second report can only be told late
	}
	close(goOn)
	reports.Wait()
	if want := []error{nil, errAway}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestManyParts(t *testing.T) {
	t.Parallel()
	last := errAway
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(why error) { last = why }) // the race detector watches that calls do not overlap
	var parts sync.WaitGroup
	for _, part := range []string{"a", "b", "c", "d"} {
		parts.Go(func() {
			for i := range 2000 {
				h.Report(part, []error{nil, nil, errAway}[i%3])
			}
			h.Report(part, nil)
		})
	}
	parts.Wait()
	if last != nil || h.Why() != nil {
		t.Errorf("told last %v, and it is %v", last, h.Why())
	}
}
