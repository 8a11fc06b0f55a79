package ops_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
		if h.Why() != s.want {
			t.Fatalf("step %d, %s reports %v: %v, want %v", i, s.part, s.err, h.Why(), s.want)
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
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(why error) { // the race detector watches that calls do not overlap
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

func TestCheck(t *testing.T) {
	t.Parallel()
	well := func() error { return nil }
	away := func() error { return errAway }
	for want, check := range map[string]http.Handler{"200 ok\n": ops.Check(well, well), "503 not ready: away\n": ops.Check(well, away)} {
		w := httptest.NewRecorder()
		check.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if got := fmt.Sprint(w.Code, " ", w.Body); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
