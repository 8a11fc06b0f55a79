package history

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
)

// A topic is what a broker would have: records from offset base on.
type topic struct {
	base    int64
	records []*sarama.ConsumerMessage
}

func (p *topic) end() int64 { return p.base + int64(len(p.records)) }

// add appends a record with this text, and id if there is one.
func (p *topic) add(id, text string) {
	r := &sarama.ConsumerMessage{Offset: p.end(), Value: []byte(text), Timestamp: time.UnixMilli(1_700_000_000_000 + p.end())}
	if id != "" {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte("id"), Value: []byte(id)})
	}
	p.records = append(p.records, r)
}

// read feeds a tail from its Open on, until the topic's end or an error.
func (p *topic) read(tail *Tail) (fresh bool, err error) {
	from, fresh := tail.Open(p.base, p.end())
	for _, r := range p.records {
		if r.Offset >= from {
			if _, err := tail.Add(r); err != nil {
				return fresh, err
			}
		}
	}
	return fresh, nil
}

// shown returns the texts that a client without a subprotocol would get from the log's start on.
func shown(t *testing.T, tail *Tail) string {
	t.Helper()
	log, _ := tail.Log()
	from, end := log.Bounds()
	var all []string
	for from < end {
		frames, _, next, err := log.Read(Raw, from, end)
		if err != nil {
			t.Fatal(err)
		}
		for len(frames) > 0 { // texts here are shorter than 126 bytes
			n := int(frames[1])
			all = append(all, string(frames[2:2+n]))
			frames = frames[2+n:]
		}
		from = next
	}
	return strings.Join(all, " ")
}

func id(i int) string { return fmt.Sprintf("id-%032d", i) }

func TestReopenGoesOnWhereItWas(t *testing.T) {
	tail, p := New(1<<20), &topic{}
	p.add("", "a")
	p.add("", "b")
	if fresh, err := p.read(tail); !fresh || err != nil {
		t.Fatal(fresh, err)
	}
	if _, loaded := tail.Log(); !loaded {
		t.Error("not loaded at the topic's end")
	}
	p.add("", "c")
	for range 2 { // the second time nothing is new
		if fresh, err := p.read(tail); fresh || err != nil {
			t.Fatal(fresh, err)
		}
		if got := shown(t, tail); got != "a b c" {
			t.Fatalf("shown %q", got)
		}
	}
}

func TestAnotherLogIsNoticed(t *testing.T) {
	for name, other := range map[string]func() *topic{
		"shorter": func() *topic { p := &topic{}; p.add("", "x"); return p },
		"empty":   func() *topic { return &topic{} },
		"longer, with the same offsets": func() *topic {
			p := &topic{}
			for i := range 5 {
				p.add("", fmt.Sprint("x", i))
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			tail, p := New(1<<20), &topic{}
			for i := range 3 {
				p.add("", fmt.Sprint(i))
			}
			if _, err := p.read(tail); err != nil {
				t.Fatal(err)
			}
			p = other()
			fresh, err := p.read(tail)
			if errors.Is(err, ErrOtherLog) {
				tail.Forget()
				fresh, err = p.read(tail)
			}
			if err != nil || !fresh {
				t.Fatalf("fresh %v, err %v: want a new log", fresh, err)
			}
			if got := shown(t, tail); got != shownOf(p) {
				t.Errorf("shown %q, the topic has %q", got, shownOf(p))
			}
			if n := tail.Counters().Resets; n != 1 {
				t.Errorf("%d resets counted", n)
			}
		})
	}
}

func shownOf(p *topic) string {
	var all []string
	for _, r := range p.records {
		all = append(all, string(r.Value))
	}
	return strings.Join(all, " ")
}

func TestWhatTheTopicLetGoIsAGap(t *testing.T) {
	tail, p := New(1<<20), &topic{}
	for i := range 3 {
		p.add("", fmt.Sprint(i))
	}
	if _, err := p.read(tail); err != nil {
		t.Fatal(err)
	}
	for i := 3; i < 8; i++ {
		p.add("", fmt.Sprint(i))
	}
	p.base, p.records = 6, p.records[6:] // 3, 4 and 5 were never read
	if fresh, err := p.read(tail); fresh || err != nil {
		t.Fatal(fresh, err)
	}
	if got := shown(t, tail); got != "0 1 2 6 7" { // the gap is an event, and nothing for raw clients
		t.Errorf("shown %q", got)
	}
	log, _ := tail.Log()
	frames, n, _, err := log.Read(ChatV1, 3, 6)
	if err != nil || n != 1 || !strings.Contains(string(frames), `{"type":"gap","missing":3}`) {
		t.Errorf("between them: %d, %q, %v", n, frames, err)
	}

	// What was let go had all been read: nothing is missing.
	p.base, p.records = p.end(), nil
	p.add("", "8")
	if fresh, err := p.read(tail); fresh || err != nil {
		t.Fatal(fresh, err)
	}
	if n := tail.Counters().Gaps; n != 1 {
		t.Errorf("%d gaps counted", n)
	}
}

// Two pods, one of which has read from the beginning and one that starts in the middle, show the
// same from there on, also of a copy whose first is before what the second one shows.
func TestCopiesAreLeftOutAlike(t *testing.T) {
	const window = 100
	p := &topic{}
	first, second := newTail(1<<24, window), newTail(1<<24, window)
	for i := range 40 {
		p.add(id(i), fmt.Sprint(i))
	}
	if _, err := p.read(first); err != nil {
		t.Fatal(err)
	}
	p.add(id(35), "copy of 35")
	p.add(id(99), "new")
	p.add(id(35), "again")
	for i := range window {
		p.add("", fmt.Sprint("filler", i))
	}
	p.add(id(35), "too late to be a copy")
	for _, tail := range []*Tail{first, second} {
		if _, err := p.read(tail); err != nil {
			t.Fatal(err)
		}
	}
	got := shown(t, first)
	if strings.Contains(got, "copy of 35") || strings.Contains(got, "again") || !strings.Contains(got, "too late") {
		t.Errorf("shown %q", got)
	}
	if other := shown(t, second); other != got {
		t.Errorf("the second pod shows %q", other)
	}
}

func TestReachedBehindAMarker(t *testing.T) {
	tail, p := New(1<<20), &topic{}
	p.add("", "a")
	if tail.Reached(0) {
		t.Error("reached before the topic was opened")
	}
	if _, err := p.read(tail); err != nil {
		t.Fatal(err)
	}
	if !tail.Reached(1) || tail.Reached(2) {
		t.Error("reached: want 1, not 2")
	}
	tail.Idle(2) // there is a marker at offset 1
	if !tail.Reached(2) || tail.Reached(3) {
		t.Error("behind a marker: want 2 reached, not 3")
	}
}
