package ops

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

var errAway = errors.New("away")

// Kafka is up when all parts are well, and what asks for the health hears the reason why it is not.
func TestUpWhenAllAreWell(t *testing.T) {
	var told []error
	h := NewHealth(slog.New(slog.DiscardHandler), func(why error) { told = append(told, why) }, "consumer", "ends")
	errUnknown, errRefused := h.Why(), errors.New("refused")
	if errUnknown == nil {
		t.Error("up before any report")
	}
	for i, s := range []struct {
		part      string
		err, want error
	}{
		{"consumer", nil, errUnknown},
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
		answer, want := httptest.NewRecorder(), "200 ok\n"
		if Check(h.Why).ServeHTTP(answer, nil); s.want != nil {
			want = fmt.Sprintf("503 not ready: %v\n", s.want)
		}
		if got := fmt.Sprint(answer.Code, " ", answer.Body); got != want {
			t.Fatalf("step %d, %s reports %v: %q, want %q", i, s.part, s.err, got, want)
		}
	}
	if want := []error{nil, errRefused, nil}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// What is told last is how things are, whatever several parts report at once.
func TestToldLastIsHowThingsAre(t *testing.T) {
	t.Parallel()
	last := errAway
	h := NewHealth(slog.New(slog.DiscardHandler), func(why error) { // the race detector watches that calls do not overlap
		time.Sleep(10 * time.Microsecond)
		last = why
	})
	for range 200 {
		var parts sync.WaitGroup
		for _, part := range []string{"a", "b", "c"} {
			parts.Go(func() {
				for i := range 4 {
					h.Report(part, []error{nil, errAway}[(i+int(part[0]))%2])
				}
				h.Report(part, nil)
			})
		}
		parts.Wait()
		if last != nil || h.Why() != nil {
			t.Fatalf("told last %v, and it is %v", last, h.Why())
		}
	}
}
