package history

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/sockets"
)

// An outcome is what a client gets that comes to a pod.
type outcome struct {
	reasons string // "" resumed, or a welcome's reason; + an event after it; "-" for nothing; or why the query is refused
	from    int64
	last    bool // then the connection is closed
	waits   bool
}

func (r *reading) query(query string) (asChat, asRaw sockets.Place, err error) {
	values, _ := url.ParseQuery(query)
	return r.Place(values, func() chat.Welcome { return chat.Welcome{Pod: "a"} })
}

// place returns what a client gets that asks so, after it has waited for so long.
func (r *reading) place(query string, wait time.Duration) (got outcome) {
	r.t.Helper()
	place, _, err := r.query(query)
	if err != nil {
		return outcome{reasons: err.Error()}
	}
	time.Sleep(wait)
	log, _ := r.Frames()
	for range 2 { // the second time what was asked has been answered
		p, placed := place(log)
		got = outcome{reasons: reasons(r.t, p.Hello), from: p.From, last: p.Last, waits: !placed}
		if placed || p.Hello != nil {
			return got
		}
		select {
		case offset := <-r.ask:
			r.learn(r.t.Context(), offset)
		default:
		}
	}
	return got
}

// reasons reads the frames of a hello.
func reasons(t testing.TB, hello []byte) string {
	t.Helper()
	if hello == nil {
		return "-"
	}
	var all []string
	for _, text := range payloads(hello) {
		var e struct{ Type, Reason string }
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "welcome" {
			e.Reason = e.Type
		}
		all = append(all, e.Reason)
	}
	return strings.Join(all, "+")
}

// at is the query of a client whose last message is at offset in a topic in which each text is this one.
func at(text string, offset int64) string {
	r := newReading(nil, offset, text)
	return positionOf(r.records[0], chat.Decode(r.records[0])).String()
}

// Where a client starts, and what it is told, for each place that its position can have.
func TestPlaces(t *testing.T) {
	t.Parallel()
	const ours, other = "t", "o"
	for query, want := range map[string]outcome{
		"last=-1":  {reasons: `last="-1": valid is a whole number from 0 on`},
		"before=x": {reasons: `before: "x" is not a position that this server gave`},
		// No position, or none of ours.
		"last=3":               {reasons: "fresh", from: 147},
		"":                     {reasons: "fresh", from: 150},
		"last=1&after=garbage": {reasons: "fresh", from: 149},
		// Here, the last one, directly before a gap, and in the gap.
		"after=" + at(ours, 60):  {from: 61},
		"after=" + at(ours, 149): {from: 150},
		"after=" + at(ours, 29):  {from: 30},
		"after=" + at(ours, 39):  {reasons: "gap", from: 50},
		// Older: Kafka has the same record, retention took it, there was none, or Kafka has another one.
		"after=" + at(ours, 15):  {reasons: "gap", from: 50},
		"after=" + at(ours, 5):   {reasons: "gap", from: 50},
		"after=-1.00000000":      {reasons: "gap", from: 50},
		"after=" + at(other, 15): {reasons: "reset", from: 50},
		// Another record here; and ahead, where the topic ends before.
		"after=" + at(other, 60):  {reasons: "reset", from: 50},
		"after=" + at(other, 170): {reasons: "reset", from: 50},
		// Older messages: as many as were asked for, by default 100, and fewer.
		"last=5&before=" + at(ours, 60):   {from: 55, last: true},
		"before=" + at(ours, 149):         {from: 49, last: true},
		"last=500&before=" + at(ours, 22): {reasons: "+gap", from: 20, last: true},
		"last=5&before=" + at(ours, 15):   {reasons: "+gap", from: 20, last: true},
		"last=5&before=" + at(other, 60):  {reasons: "reset", from: 60, last: true},
		"last=5&before=" + at(other, 170): {reasons: "reset", from: 170, last: true},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				// The pod shows 20 to 29 and 40 to 149. It did not get 30 to 39, and Kafka still has 10 to 149.
				r := newReading(t, 20, strings.Repeat(ours, 10))
				r.all()
				r.set(40, strings.Repeat(ours, 110))
				r.all()
				r.set(10, strings.Repeat(ours, 140))
				if got := r.place(query, time.Second/2); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				resumes := r.Stats().Resumes
				if named := strings.HasPrefix(query, "after="); named != (resumes[cmp.Or(want.reasons, "resumed")] == 1) {
					t.Errorf("counted %v", resumes)
				}
			})
		})
	}
}

// A record is read from Kafka once, whoever asks; and a client does not wait for Kafka for ever.
func TestOldRecordsAreReadOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReading(t, 10, "abc")
		r.all()
		r.set(0, "0123456789abc")
		for range 20 { // of this topic, of another one, and of a client that has seen nothing
			for position, want := range map[string]string{at("4", 4): "gap", at("x", 4): "reset", "-1.00000000": "gap"} {
				if got := r.place("after="+position, 0); got.reasons != want {
					t.Fatalf("after=%s: %+v, want %s", position, got, want)
				}
			}
		}
		if r.reads != 1 {
			t.Errorf("%d records were read for one offset", r.reads)
		}
		r.silent = true
		for _, c := range []struct {
			query string
			wait  time.Duration
			want  outcome
		}{
			{"after=" + at("2", 2), 0, outcome{reasons: "-", waits: true}},
			{"after=" + at("2", 2), patience, outcome{waits: true}}, // welcomed as if it continued
			{"after=" + at("2", 2), oldPatience, outcome{reasons: "gap", from: 10}},
			{"after=99.00000000", patience, outcome{waits: true}},
		} {
			if got := r.place(c.query, c.wait); got != c.want {
				t.Errorf("Kafka is silent, %s after %v: %+v, want %+v", c.query, c.wait, got, c.want)
			}
		}
	})
}

// While the log is not loaded, clients wait, and after a second they are welcomed. What comes out after that is an event.
// A client gets whatever is said after it came, also before it is placed.
func TestClientsWaitForTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReading(t, 0, "abc")
		r.do("open0")
		if at0, at1 := r.place("last=2", 0).reasons, r.place("last=2", patience).reasons; at0 != "-" || at1 != "fresh" {
			t.Errorf("told %q at once, %q after a second", at0, at1)
		}
		_, raw, _ := r.query("last=2")
		late, _, _ := r.query("after=" + at("x", 1))
		time.Sleep(patience)
		log, _ := r.Frames()
		if _, placed := raw(log); placed {
			t.Error("a raw client is placed before the log is loaded")
		}
		if p, placed := late(log); placed || reasons(t, p.Hello) != "" {
			t.Errorf("a late client is placed %v, %s", placed, p.Hello)
		}
		r.do("reached3")
		if place, placed := raw(log); !placed || place.From != 1 || place.Hello != nil {
			t.Errorf("a raw client: %+v, %v", place, placed)
		}
		if p, placed := late(log); !placed || reasons(t, p.Hello) != "reset" {
			t.Errorf("a late client is placed %v, %s", placed, p.Hello)
		}
		newest, newestRaw, _ := r.query("last=1")
		r.add("d")
		r.all()
		p, _ := newest(log)
		if asRaw, _ := newestRaw(log); p.From != 2 || asRaw.From != 2 {
			t.Errorf("clients that came before the last message start at %d and %d, want 2", p.From, asRaw.From)
		}
	})
}

// A client that is a little ahead of a pod is never told of another topic, whatever the pod reads while it decides.
func TestAheadOfAPodThatReads(t *testing.T) {
	t.Parallel()
	r := newReading(t, 0, "")
	r.all()
	const most = 50_000
	r.set(0, strings.Repeat("t", most))
	log, _ := r.Frames()
	done := make(chan bool)
	r.silent = true // Kafka is not asked
	go func() { r.read(most); close(done) }()
	for {
		next, _ := r.Reading()
		if next == most {
			break
		}
		m := r.records[next]
		place, _, _ := r.query("after=" + positionOf(m, chat.Decode(m)).String())
		if p, placed := place(log); placed && reasons(t, p.Hello) != "" {
			t.Fatalf("a client at offset %d is told %q", next, reasons(t, p.Hello))
		}
	}
	<-done
}
