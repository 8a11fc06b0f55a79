package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafka"
)

// A topic is what a broker would have: records from offset base on, and markers where texts are "".
type topic struct {
	base    int64
	records []*sarama.ConsumerMessage // nil: a marker
	asked   time.Time                 // what Last says
	reads   int                       // of single records
	silent  bool                      // it answers no questions
}

func topicOf(base int64, texts ...string) *topic {
	p := &topic{base: base}
	for _, text := range texts {
		p.add("", text)
	}
	return p
}

func (p *topic) end() int64 { return p.base + int64(len(p.records)) }

// add appends a record with this text, and id if there is one.
func (p *topic) add(id, text string) {
	if text == "" {
		p.records = append(p.records, nil)
		return
	}
	r := &sarama.ConsumerMessage{Offset: p.end(), Value: []byte(text), Timestamp: time.UnixMilli(1_700_000_000_000 + p.end())}
	if id != "" {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte("id"), Value: []byte(id)})
	}
	p.records = append(p.records, r)
}

// retain has the topic begin at offset base.
func (p *topic) retain(base int64) { p.base, p.records = base, p.records[base-p.base:] }

func (p *topic) Last() kafka.Bounds {
	return kafka.Bounds{Oldest: p.base, Newest: p.end(), Asked: p.asked}
}

func (p *topic) Ask(context.Context) (kafka.Bounds, error) { return p.Last(), nil }

func (p *topic) Wake() {
	if !p.silent {
		p.asked = time.Now()
	}
}

func (p *topic) record(_ context.Context, offset int64) (*sarama.ConsumerMessage, error) {
	p.reads++
	if p.silent {
		return nil, context.DeadlineExceeded
	}
	if offset < p.base {
		return nil, sarama.ErrOffsetOutOfRange
	}
	for _, r := range p.records[offset-p.base:] {
		if r != nil {
			return r, nil
		}
	}
	return nil, context.DeadlineExceeded
}

// history returns one of p, which nothing has been read into.
func (p *topic) history(windowSize int64) *History {
	return newHistory(Config{
		Limit: 1 << 25, Ends: p, Record: p.record, Log: slog.New(slog.DiscardHandler),
		Report: func(error) {}, Changed: func() {}, Placed: func(string) {},
	}, windowSize)
}

// A reading is a consumer of a topic that feeds a history.
type reading struct {
	t     *testing.T
	topic *topic
	h     *History
	at    int64
}

// open opens the history, and goes on with a new log if the topic is another one.
func (r *reading) open() (another bool) {
	r.at, another = r.h.Open(r.topic.base, r.topic.end())
	return another
}

// read reads up to an offset; answered says that a fetch has said so.
func (r *reading) read(to int64, answered bool) error {
	for ; r.at < to; r.at++ {
		if m := r.topic.records[r.at-r.topic.base]; m != nil {
			if _, err := r.h.Add(m); err != nil {
				return err
			}
		}
	}
	if answered {
		r.h.Reached(r.at)
	} else {
		r.h.Reached(-1)
	}
	return nil
}

// all opens the history and reads all, as often as handleMessages does.
func (r *reading) all() (another bool) {
	r.t.Helper()
	for range 3 {
		another = r.open() || another
		err := r.read(r.topic.end(), true)
		if err == nil {
			return another
		}
		if !errors.Is(err, ErrAnotherTopic) || !r.h.Interrupted(r.t.Context(), err) {
			r.t.Fatal(err)
		}
	}
	r.t.Fatal("reading does not come to an end")
	return false
}

func (r *reading) state(want state) {
	r.t.Helper()
	if r.h.state != want {
		r.t.Fatalf("state %d, want %d; ready: %v", r.h.state, want, r.h.Ready())
	}
	if ready := r.h.Ready(); want == live && ready != nil {
		r.t.Fatalf("live, and not ready: %v", ready)
	}
}

// shown returns the texts that a client without a subprotocol would get from the log's start on.
func shown(t *testing.T, h *History) string {
	t.Helper()
	log, _ := h.Frames()
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

// What happens to the topic and to the consumer, in each state, and what is shown at last.
func TestStates(t *testing.T) {
	const window = 3
	five := func() *topic { return topicOf(0, "a", "b", "c", "d", "e") }
	for name, c := range map[string]struct {
		topic *topic
		steps func(r *reading)
		want  string // "" where the log is of no interest
		gaps  int64
		reset int64
	}{
		"unknown: nothing is ready before the topic is opened": {five(), func(r *reading) {
			if err := r.h.Ready(); !errors.Is(err, errNotAsked) || r.h.state != unknown {
				r.t.Errorf("ready: %v", err)
			}
		}, "", 0, 0},
		"loading: a slow first fetch is not the end": {five(), func(r *reading) {
			r.open()
			r.read(0, false)
			r.state(loading)
			if err := r.h.Ready(); err == nil || strings.Contains(err.Error(), "has been reached") {
				r.t.Errorf("before any answer: %v", err)
			}
			r.read(2, true)
			r.state(loading)
			if err := r.h.Ready(); err == nil || !strings.Contains(err.Error(), "offset 2 of 5 has been reached") {
				r.t.Errorf("at 2 of 5: %v", err)
			}
			r.read(5, false)
			r.state(live)
		}, "a b c d e", 0, 0},
		"loading: an empty topic is read when a fetch has been answered": {topicOf(7), func(r *reading) {
			r.open()
			r.read(7, false)
			r.state(loading)
			r.read(7, true)
			r.state(live)
		}, "", 0, 0},
		"loading: markers at the end count when they have been received": {topicOf(0, "a", "", ""), func(r *reading) {
			r.open()
			r.read(1, true)
			r.state(loading)
			if next, _ := r.h.Reading(); next > 1 {
				r.t.Error("has read 2 before an answer says so")
			}
			r.read(3, true)
			r.state(live)
		}, "a", 0, 0},
		"loading: goes on after a fault": {five(), func(r *reading) {
			r.open()
			r.read(2, true)
			r.topic.add("", "f")
			if r.open() || r.at != 1 {
				r.t.Errorf("opened at %d, want the last record, 1", r.at)
			}
			r.state(loading)
			if err := r.read(6, true); err != nil {
				r.t.Error(err)
			}
			r.state(live)
		}, "a b c d e f", 0, 0},
		"loading: opened twice before the first record": {five(), func(r *reading) {
			r.open()
			if r.open() || r.at != 0 {
				r.t.Errorf("opened at %d", r.at)
			}
			r.read(5, true)
			r.state(live)
		}, "a b c d e", 0, 0},
		"loading: retention is faster": {five(), func(r *reading) {
			r.open()
			r.read(1, true)
			r.topic.retain(3)
			r.all()
		}, "d e", 0, 0},
		"loading: the topic is made anew, shorter than what was to be read": {five(), func(r *reading) {
			r.open()
			r.topic.base, r.topic.records = 0, topicOf(0, "x", "y").records
			r.all()
		}, "x y", 0, 1},
		"loading: the topic is made anew, longer": {five(), func(r *reading) {
			r.open()
			r.read(2, true)
			r.topic.records = topicOf(0, "u", "v", "w", "x", "y", "z").records
			r.all()
		}, "u v w x y z", 0, 1},
		"live: goes on after faults": {five(), func(r *reading) {
			r.all()
			for range 2 { // the second time nothing is new
				if r.all() {
					r.t.Error("the topic is the same")
				}
				r.topic.add("", "f")
			}
			r.all()
		}, "a b c d e f f", 0, 0},
		"live: what retention takes has been read": {five(), func(r *reading) {
			r.all()
			r.topic.add("", "f")
			r.topic.retain(5)
			r.all()
		}, "a b c d e f", 0, 0},
		"live: retention is faster, and again before the first record": {topicOf(0, "a", "b", "c", "d", "e", "f", "g", "h"), func(r *reading) {
			r.topic.records = r.topic.records[:3]
			r.all()
			r.topic.records = topicOf(0, "a", "b", "c", "d", "e", "f", "g", "h").records
			r.topic.retain(5)
			r.open()
			r.topic.retain(6)
			r.open()
			r.state(live)
			if err := r.read(8, true); err != nil {
				r.t.Error(err)
			}
			log, _ := r.h.Frames()
			for from, want := range map[int64]string{3: `{"type":"gap","missing":2}`, 5: `{"type":"gap","missing":1}`} {
				if _, n, _, err := log.Read(ChatV1, from, from+1); err != nil || n > 1 {
					r.t.Error(n, err)
				} else if frames, _, _, _ := log.Read(ChatV1, from, from+2); !strings.Contains(string(frames), want) {
					r.t.Errorf("from %d on: %q, want %s", from, frames, want)
				}
			}
		}, "a b c g h", 2, 0},
		"live: the topic is made anew, empty": {five(), func(r *reading) {
			r.all()
			r.topic.records = nil
			r.all()
		}, "", 0, 1},
		"live: the topic is made anew, shorter": {five(), func(r *reading) {
			r.all()
			r.topic.records = topicOf(0, "x").records
			r.all()
		}, "x", 0, 1},
		"live: the topic is made anew, longer": {five(), func(r *reading) {
			r.all()
			r.topic.records = topicOf(0, "u", "v", "w", "x", "y", "z").records
			if !r.all() {
				r.t.Error("the topic is another one")
			}
			r.all()
		}, "u v w x y z", 0, 1},
		"ready is for ever": {five(), func(r *reading) {
			r.all()
			r.topic.records = topicOf(0, "x", "y").records
			r.open()
			r.h.Interrupted(r.t.Context(), errors.New("away"))
			if err := r.h.Ready(); err != nil {
				r.t.Error(err)
			}
			if _, loaded := r.h.Frames(); loaded {
				r.t.Error("loaded, and nothing has been read")
			}
			r.all()
		}, "x y", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &reading{t: t, topic: c.topic, h: c.topic.history(window)}
			c.steps(r)
			if got := shown(t, r.h); got != c.want {
				t.Errorf("shown %q, want %q", got, c.want)
			}
			if n := r.h.Counters(); n.Gaps != c.gaps || n.Resets != c.reset {
				t.Errorf("%d gaps, %d resets counted, want %d and %d", n.Gaps, n.Resets, c.gaps, c.reset)
			}
		})
	}
}

// A pod that reads more than what it shows, for the ids, and whose topic lets go of records meanwhile.
func TestRetentionWhileIDsAreRead(t *testing.T) {
	t.Parallel()
	p := &topic{}
	for i := range showAtMost + 20 {
		p.add("", fmt.Sprint(i))
	}
	r := &reading{t: t, topic: p, h: p.history(10)}
	r.open()
	if r.at != 10 {
		t.Fatalf("opened at %d, want 10 before what is shown", r.at)
	}
	r.read(12, true)
	p.retain(16)
	r.all()
	r.state(live)
	if log, _ := r.h.Frames(); log.Newest(1<<20) != 20 {
		start, end := log.Bounds()
		t.Errorf("the log has %d to %d", start, end)
	}
}

// A topic that cannot be read is tried ever more seldom, the log has a line for it once a minute, and it
// counts as readable when a fetch has been answered, not when it is opened.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := topicOf(0, "a", "b")
		r := &reading{t: t, topic: p, h: p.history(1)}
		var log strings.Builder
		var reported []error
		r.h.Log = slog.New(slog.NewTextHandler(&log, nil))
		r.h.Report = func(err error) { reported = append(reported, err) }
		refused, begun := errors.New("refused"), time.Now()
		for time.Since(begun) < 10*time.Minute {
			r.open()
			r.read(0, false)
			if !r.h.Interrupted(t.Context(), refused) {
				t.Fatal("given up")
			}
		}
		if n := len(reported); n > 80 || slices.Contains(reported, nil) {
			t.Errorf("tried %d times within 10 minutes; reported %v", n, reported[:3])
		}
		if n := strings.Count(log.String(), "refused"); n < 5 || n > 12 {
			t.Errorf("%d lines in the log within 10 minutes:\n%s", n, log.String())
		}
		if err := r.h.Ready(); !errors.Is(err, refused) || !r.h.Behind() {
			t.Errorf("ready: %v, behind: %v", err, r.h.Behind())
		}
		r.open()
		r.read(2, true)
		if reported[len(reported)-1] != nil || r.h.Ready() != nil {
			t.Errorf("after an answer: %v, ready: %v", reported[len(reported)-1], r.h.Ready())
		}
		p.Wake()
		if r.h.Behind() {
			t.Error("behind, and all has been read")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r.h.Interrupted(ctx, refused) {
			t.Error("goes on after the server has stopped")
		}
	})
}

func id(i int) string { return fmt.Sprintf("id-%032d", i) }

// Two pods, one of which has read from the beginning and one that starts in the middle, show the
// same from there on, also of a copy whose first is before what the second one shows.
func TestCopiesAreLeftOutAlike(t *testing.T) {
	t.Parallel()
	const window = 100
	p := &topic{}
	for i := range 40 {
		p.add(id(i), fmt.Sprint(i))
	}
	first := &reading{t: t, topic: p, h: p.history(window)}
	first.all()
	p.add(id(35), "copy of 35")
	p.add(id(99), "new")
	p.add(id(35), "again")
	for i := range window {
		p.add("", fmt.Sprint("filler", i))
	}
	p.add(id(35), "too late to be a copy")
	second := &reading{t: t, topic: p, h: p.history(window)}
	first.all()
	second.all()
	got := shown(t, first.h)
	if strings.Contains(got, "copy of 35") || strings.Contains(got, "again") || !strings.Contains(got, "too late") {
		t.Errorf("shown %q", got)
	}
	if other := shown(t, second.h); other != got {
		t.Errorf("the second pod shows %q", other)
	}
}

// BenchmarkAdd is what a pod does with a record of 128 bytes before its first client gets it: decode,
// look for a copy, encode for both kinds of clients, append to the frame log.
func BenchmarkAdd(b *testing.B) {
	p := &topic{}
	h := p.history(chat.WindowSize)
	h.Open(0, 0)
	messages := make([]*sarama.ConsumerMessage, chat.WindowSize+1) // an id comes again when the window has let it go
	for i := range messages {
		m := &sarama.ConsumerMessage{Timestamp: time.Now(), Value: []byte(strings.Repeat("x", 128))}
		for _, header := range chat.Headers(chat.Message{ID: id(i), Name: "Ann", Pod: "pod-a"}) {
			m.Headers = append(m.Headers, &header)
		}
		messages[i] = m
	}
	b.ReportAllocs()
	var offset int64
	for b.Loop() {
		m := messages[offset%int64(len(messages))]
		m.Offset = offset
		offset++
		if _, err := h.Add(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "records/s")
	if copies := h.Counters().Copies; copies > 0 {
		b.Fatalf("%d records were left out", copies)
	}
}
