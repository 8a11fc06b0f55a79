package history

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
)

// An outcome is what a client gets that comes to a pod.
type outcome struct {
	reasons string // "" resumed, or a welcome's reason; + an event after it; "-" for nothing
	from    int64
	last    bool // then the connection is closed
	waits   bool
}

// place returns what a client gets that asks so, and whose welcome came so long ago.
func (r *reading) place(query string, ago time.Duration) (got outcome) {
	r.t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := Parse(values)
	if err != nil {
		r.t.Fatal(err)
	}
	c := r.h.Arrive(request, func() chat.Welcome { return chat.Welcome{Pod: "a"} })
	c.came = c.came.Add(-ago)
	log, _ := r.h.Frames()
	for range 2 { // the second time what was asked has been answered
		p, placed := c.Chat(log)
		got = outcome{reasons: reasons(r.t, p.Hello), from: p.From, last: p.Last, waits: !placed}
		if placed || p.Hello != nil {
			return got
		}
		select {
		case offset := <-r.h.ask:
			r.h.learn(r.t.Context(), offset)
		default:
		}
	}
	return got
}

// reasons reads the frames of a hello.
func reasons(t *testing.T, hello []byte) string {
	t.Helper()
	if hello == nil {
		return "-"
	}
	var all []string
	for len(hello) > 0 {
		n, head := int(hello[1]), 2
		if n == 126 {
			n, head = int(hello[2])<<8|int(hello[3]), 4
		}
		var e struct{ Type, Reason string }
		if err := json.Unmarshal(hello[head:head+n], &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "welcome" {
			e.Reason = e.Type
		}
		all = append(all, e.Reason)
		hello = hello[head+n:]
	}
	return strings.Join(all, "+")
}

func at(r *topic, offset int64) string {
	m := r.records[offset-r.base]
	return positionOf(m, chat.Decode(m)).String()
}

// Where a client starts, and what it is told, for each place that its position can have.
func TestPlaces(t *testing.T) {
	// The pod shows 20 to 29 and 40 to 149; 30 to 39 were gone before it read them, and the topic still has 10 to 149.
	p := topicOf(0)
	for i := range 150 {
		p.add("", fmt.Sprint("text ", i))
	}
	all := p.records
	r := &reading{t: t, topic: p, h: p.history(1)}
	p.base, p.records = 20, all[20:30]
	r.all()
	p.base, p.records = 40, all[40:]
	r.all()
	p.base, p.records = 10, all[10:]
	other := topicOf(0)
	for i := range 200 {
		other.add("", fmt.Sprint("other ", i))
	}
	whole := &topic{records: all}
	after := func(position string) string { return "after=" + position }
	for name, c := range map[string]struct {
		query string
		ago   time.Duration
		want  outcome
	}{
		"none":                             {"last=3", 0, outcome{reasons: "fresh", from: 147}},
		"none, and no messages":            {"", 0, outcome{reasons: "fresh", from: 150}},
		"not one of ours":                  {"last=1&after=garbage", 0, outcome{reasons: "fresh", from: 149}},
		"here":                             {after(at(whole, 60)), 0, outcome{from: 61}},
		"the last one":                     {after(at(whole, 149)), 0, outcome{from: 150}},
		"directly before a gap":            {after(at(whole, 29)), 0, outcome{from: 30}},
		"in a gap":                         {after(at(whole, 33)), 0, outcome{reasons: "gap", from: 50}},
		"the last one in a gap":            {after(at(whole, 39)), 0, outcome{reasons: "gap", from: 50}},
		"older, and Kafka has the same":    {after(at(whole, 15)), 0, outcome{reasons: "gap", from: 50}},
		"older, and retention took it":     {after(at(whole, 5)), 0, outcome{reasons: "gap", from: 50}},
		"older, of a client without any":   {after("-1.00000000"), 0, outcome{reasons: "gap", from: 50}},
		"older, and Kafka has another":     {after(at(other, 15)), 0, outcome{reasons: "reset", from: 50}},
		"another record there":             {after(at(other, 60)), 0, outcome{reasons: "reset", from: 50}},
		"ahead, and the topic ends before": {after(at(other, 170)), time.Second / 2, outcome{reasons: "reset", from: 50}},

		"before: here":               {"last=5&before=" + at(whole, 60), 0, outcome{from: 55, last: true}},
		"before: by default 100":     {"before=" + at(whole, 149), 0, outcome{from: 49, last: true}},
		"before: more than there is": {"last=500&before=" + at(whole, 22), 0, outcome{reasons: "+gap", from: 20, last: true}},
		"before: the oldest":         {"last=5&before=" + at(whole, 20), 0, outcome{reasons: "+gap", from: 20, last: true}},
		"before: older":              {"last=5&before=" + at(whole, 15), 0, outcome{reasons: "+gap", from: 20, last: true}},
		"before: another there":      {"last=5&before=" + at(other, 60), 0, outcome{reasons: "reset", from: 60, last: true}},
		"before: ahead":              {"last=5&before=" + at(other, 170), 0, outcome{reasons: "reset", from: 170, last: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&reading{t: t, topic: p, h: r.h}).place(c.query, c.ago); got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.query, got, c.want)
			}
		})
	}
}

// A record is read from Kafka once, whoever asks; and a client does not wait for Kafka for ever.
func TestOldRecordsAreReadOnce(t *testing.T) {
	t.Parallel()
	p := topicOf(10, "a", "b", "c")
	r := &reading{t: t, topic: p, h: p.history(1)}
	r.all()
	p.base, p.records = 0, append(topicOf(0, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9").records, p.records...)
	same, other := "after="+at(p, 4), "after="+at(topicOf(0, "x", "x", "x", "x", "x"), 4)
	for range 20 {
		if got := r.place(same, 0); got.reasons != "gap" {
			t.Fatalf("of this topic: %+v", got)
		}
		if got := r.place(other, 0); got.reasons != "reset" {
			t.Fatalf("of another topic: %+v", got)
		}
	}
	if p.reads != 1 {
		t.Errorf("%d records were read for one offset", p.reads)
	}
	p.silent = true
	for _, c := range []struct {
		query string
		ago   time.Duration
		want  outcome
	}{
		{"after=" + at(p, 2), 0, outcome{reasons: "-", waits: true}},
		{"after=" + at(p, 2), oldPatience, outcome{reasons: "gap", from: 10}},
		{"after=99.00000000", 0, outcome{reasons: "-", waits: true}},
		{"after=99.00000000", patience, outcome{reasons: "", waits: true}}, // welcomed as if it continued
	} {
		if got := r.place(c.query, c.ago); got != c.want {
			t.Errorf("Kafka is silent, %s after %v: %+v, want %+v", c.query, c.ago, got, c.want)
		}
	}
}

// While the log is not loaded, clients wait, and after a second they are welcomed.
func TestClientsWaitForTheLog(t *testing.T) {
	t.Parallel()
	p := topicOf(0, "a", "b", "c")
	r := &reading{t: t, topic: p, h: p.history(1)}
	r.open()
	if got := r.place("last=2", 0); !got.waits || got.reasons != "-" {
		t.Errorf("at once: %+v", got)
	}
	if got := r.place("last=2", patience); !got.waits || got.reasons != "fresh" {
		t.Errorf("after a second: %+v", got)
	}
	request, _ := Parse(url.Values{"last": {"2"}})
	raw := r.h.Arrive(request, nil)
	log, _ := r.h.Frames()
	if _, placed := raw.Raw(log); placed {
		t.Error("a raw client is placed before the log is loaded")
	}
	r.read(3, true)
	if place, placed := raw.Raw(log); !placed || place.From != 1 || place.Hello != nil {
		t.Errorf("a raw client: %+v, %v", place, placed)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{"last=-1": "whole number", "last=x": "whole number", "before=x": "not a position"} {
		values, _ := url.ParseQuery(query)
		if _, err := Parse(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}
