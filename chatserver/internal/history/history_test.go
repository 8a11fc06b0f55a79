package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/Shopify/sarama"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// A reading is a topic, a consumer of it, and the history that it feeds.
type reading struct {
	*History
	t        testing.TB
	base     int64                     // the topic's first offset
	records  []*sarama.ConsumerMessage // from there on; nil: a marker
	at       int64                     // what the consumer reads next
	asked    time.Time                 // when Kafka was asked last for the end
	reads    int                       // of single records
	silent   bool                      // Kafka answers no questions
	reported []error                   // of the consumer
}

// newReading returns one of the topic that set makes, with a window of 3.
func newReading(t testing.TB, base int64, texts string) *reading {
	r := &reading{t: t}
	r.History = New(Config{
		Cluster: new(kafka.Cluster), ClientID: func(string) string { return "test" }, Limit: 1 << 25,
		Report: func(_ string, err error) { r.reported = append(r.reported, err) }, Log: slog.New(slog.DiscardHandler),
	})
	r.ends, r.record, r.windowSize = r, r.readOld, 3
	r.set(base, texts)
	return r
}

// set makes the topic one of texts of one letter each; "." is a marker.
func (r *reading) set(base int64, texts string) {
	r.base, r.records = base, nil
	for _, text := range texts {
		r.add(string(text))
	}
}

func (r *reading) end() int64 { return r.base + int64(len(r.records)) }

// add appends a record with this text. A text that begins with a capital letter begins with the record's id.
func (r *reading) add(text string) {
	m := &sarama.ConsumerMessage{Offset: r.end(), Value: []byte(text), Timestamp: time.UnixMilli(1_700_000_000_000 + r.end())}
	if unicode.IsUpper(rune(text[0])) {
		id := (text + strings.Repeat("-", chat.MinID))[:chat.MinID]
		for _, header := range chat.Headers(chat.Message{ID: id, Name: "Ann", Pod: "pod-a"}) {
			m.Headers = append(m.Headers, &header)
		}
	}
	if text == "." {
		m = nil
	}
	r.records = append(r.records, m)
}

func (r *reading) Run(context.Context) {}

func (r *reading) Last() kafka.End { return kafka.End{Offset: r.end(), Asked: r.asked} }

func (r *reading) Ask(context.Context) (kafka.End, error) { return r.Last(), nil }

func (r *reading) Wake() {
	if !r.silent {
		r.asked = time.Now()
	}
}

func (r *reading) readOld(_ context.Context, offset int64) (*sarama.ConsumerMessage, error) {
	r.reads++
	switch {
	case r.silent:
		return nil, context.DeadlineExceeded
	case offset < r.base:
		return nil, sarama.ErrOffsetOutOfRange
	}
	return r.records[offset-r.base], nil
}

// read reads up to an offset.
func (r *reading) read(to int64) {
	for ; r.at < to; r.at++ {
		if m := r.records[r.at-r.base]; m != nil {
			r.Add(m)
		}
	}
}

// open opens the history after a session has found out whether the topic is the one that was read.
func (r *reading) open() {
	another := r.state != unknown && r.end() < max(r.next, r.target)
	if last := r.last; last != nil && last.Offset >= r.base && !another {
		now := r.records[last.Offset-r.base]
		another = now == nil || string(now.Value) != string(last.Value)
	}
	if another {
		r.Interrupted(r.t.Context(), kafka.ErrAnotherTopic)
	}
	r.at = r.History.open(r.base, r.end())
}

func (r *reading) all() {
	r.open()
	r.read(r.end())
	r.Reached(r.at)
}

// do does one step of a test: see TestStates.
func (r *reading) do(step string) {
	r.t.Helper()
	name, texts, _ := strings.Cut(step, "=")
	digits := strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz+")
	n, _ := strconv.ParseInt(digits, 10, 64)
	switch name = strings.TrimSuffix(name, digits); name {
	case "topic":
		r.set(0, texts)
	case "+":
		r.add("f")
	case "base":
		r.base, r.records = n, r.records[n-r.base:]
	case "open":
		if r.open(); r.at != n {
			r.t.Errorf("opened at %d, want %d", r.at, n)
		}
	case "read":
		r.read(n)
		r.Reached(-1)
	case "reached":
		r.read(n)
		r.Reached(n)
	case "all":
		r.all()
	default:
		want, known := map[string]string{"unanswered": errNotAsked.Error(), "loading": fmt.Sprintf("offset %d of", n), "live": "<nil>", "ready": "<nil>"}[name]
		if _, loaded := r.Frames(); !known || !strings.Contains(fmt.Sprint(r.Ready()), want) || loaded != (name == "live") {
			r.t.Errorf("ready: %v, loaded: %v, want %q", r.Ready(), loaded, step)
		}
	}
}

// payloads returns the texts in frames.
func payloads(frames []byte) (texts []string) {
	for len(frames) > 0 {
		head, n := 2, int(frames[1])
		if n == 126 {
			head, n = 4, int(frames[2])<<8|int(frames[3])
		}
		texts = append(texts, string(frames[head:head+n]))
		frames = frames[head+n:]
	}
	return texts
}

// shown returns the texts that a client without a subprotocol would get from the log's start on.
func (r *reading) shown() (all string) {
	log, _ := r.Frames()
	for from, end := log.Bounds(); from < end; {
		frames, _, next, err := log.Read(Raw, from, end)
		if err != nil {
			r.t.Fatal(err)
		}
		all += strings.Join(payloads(frames), "")
		from = next
	}
	return all
}

// What happens to a topic of 5 records and to the consumer, in each state, and what is shown at last. The steps:
// openN opens the history, which is to read from N on; readN reads up to N, reachedN says so, too; all does
// all of it; topic=, + and baseN make the topic another one, longer, and begin at N.
func TestStates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps, want  string
		gaps, resets int64
	}{
		"loading: a slow first fetch is not the end":                         {"open0 read0 unanswered reached2 loading2 read5 live", "abcde", 0, 0},
		"loading: an empty topic is read when a fetch has been answered":     {"topic= open0 read0 unanswered reached0 live", "", 0, 0},
		"loading: markers at the end count when they have been received":     {"topic=a.. open0 reached1 loading1 reached3 live", "a", 0, 0},
		"loading: goes on after a fault":                                     {"open0 reached2 + open2 reached2 loading2 reached6 live", "abcdef", 0, 0},
		"loading: retention is faster":                                       {"open0 reached1 base3 open3 reached5 live", "de", 0, 0},
		"loading: the topic is made anew, shorter than what was to be read":  {"open0 topic=xy all live", "xy", 0, 1},
		"live: a copy is left out, and the copy of a copy, but no later one": {"topic=abC.CC all topic=abC.CCCdefC all", "abCdefC", 0, 0},
		"live: goes on after faults":                                         {"all all + all + all", "abcdeff", 0, 0},
		"live: what retention takes has been read":                           {"all + base5 open5 reached6", "abcdef", 0, 0},
		"live: retention is faster, and again before the first record":       {"topic=abc all topic=abcdefgh base5 open5 base6 open6 live reached8", "abcgh", 2, 0},
		"live: a gap, and a fault":                                           {"topic=abc all topic=abcdefgh base5 open5 reached6 open6 reached8", "abcfgh", 1, 0},
		"live: behind markers":                                               {"topic=ab.. all open4 reached4 + open4 reached5", "abf", 0, 0},
		"live: the topic is made anew, empty":                                {"all topic= all", "", 0, 1},
		"live: the topic is made anew, longer":                               {"all topic=uvwxyz all all", "uvwxyz", 0, 1},
		"ready is for ever":                                                  {"all topic=xy open0 ready all", "xy", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReading(t, 0, "abcde")
			for step := range strings.FieldsSeq(c.steps) {
				r.do(step)
			}
			if log, _ := r.Frames(); c.gaps == 1 { // it says how much is missing
				if frames, _, _, err := log.Read(ChatV1, 3, 5); err != nil || !strings.Contains(string(frames), `{"type":"gap","missing":2}`) {
					t.Errorf("%q, %v", frames, err)
				}
			}
			if got, n := r.shown(), r.Stats(); got != c.want || n.Gaps != c.gaps || n.Resets != c.resets {
				t.Errorf("shown %q, %d gaps, %d resets, want %q, %d, %d", got, n.Gaps, n.Resets, c.want, c.gaps, c.resets)
			}
		})
	}
}

// A pod reads more than what it shows, for the ids, and its topic lets go of records meanwhile.
func TestRetentionWhileIDsAreRead(t *testing.T) {
	t.Parallel()
	r := newReading(t, 0, strings.Repeat("x", 19)+"CxC"+strings.Repeat("x", showAtMost-2))
	for _, step := range []string{"open17", "reached18", "base19", "all", "live"} {
		r.do(step)
	}
	if log, _ := r.Frames(); log.Newest(1<<20) != 20 || r.Stats().Copies != 1 {
		start, end := log.Bounds()
		t.Errorf("the log has %d to %d, without %d copies", start, end, r.Stats().Copies)
	}
}

// A topic counts as readable when a fetch has been answered, not when it is opened.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReading(t, 0, "ab")
		var log strings.Builder
		*r.Log = *slog.New(slog.NewTextHandler(&log, nil))
		refused := errors.New("refused")
		for range 10 {
			r.do("open0")
			r.do("read0")
			if !r.Interrupted(t.Context(), refused) || !errors.Is(r.Ready(), refused) || !r.Behind() {
				t.Fatalf("given up, or ready: %v", r.Ready())
			}
		}
		if slices.Contains(r.reported, nil) || strings.Count(log.String(), "refused") != 1 {
			t.Errorf("reported %v, and logged\n%s", r.reported, log.String())
		}
		r.do("open0")
		r.do("reached2")
		r.Wake()
		if last := r.reported[len(r.reported)-1]; last != nil || r.Ready() != nil || r.Behind() {
			t.Errorf("after an answer: %v, ready: %v, behind: %v", last, r.Ready(), r.Behind())
		}
		time.Sleep(endIsOld + time.Second)
		begun := time.Now()
		if !r.Behind() || !r.Interrupted(t.Context(), refused) || r.Ready() != nil || time.Since(begun) > time.Second {
			t.Errorf("behind: %v, ready: %v, and tried again after %v", r.Behind(), r.Ready(), time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r.Interrupted(ctx, refused) {
			t.Error("goes on after the server has stopped")
		}
	})
}

// A real topic is made, read on, and read anew when it was made again.
func TestConnect(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, brokers := newReading(t, 0, "ab"), kafkatest.Broker(t)
	r.Cluster.Brokers, r.Topic = []string{brokers}, kafkatest.TopicName(t, brokers)
	want := func(from, resets int64) {
		t.Helper()
		session, got, err := r.Connect(ctx)
		for err != nil && r.Interrupted(ctx, err) { // another topic, or the machine is busy
			session, got, err = r.Connect(ctx)
		}
		if n := r.Stats(); err != nil || got != from || n.Resets != resets || n.Partitions != 1 {
			t.Fatalf("reads from %d on, with %d resets of %d partitions, %v; want from %d on, %d resets", got, n.Resets, n.Partitions, err, from, resets)
		}
		session.Close()
	}
	want(0, 0)
	kafkatest.Produce(t, brokers, r.Topic, "a", "b")
	r.read(2)
	want(2, 0)
	kafkatest.Recreate(t, brokers, r.Topic, "x")
	want(0, 1)
}

// BenchmarkAdd is what a pod does with a record before its first client gets the message.
func BenchmarkAdd(b *testing.B) {
	r := newReading(b, 0, "")
	r.windowSize = chat.WindowSize
	r.open()
	for i := range chat.WindowSize + 1 { // an id comes again when the window has let it go
		r.add(fmt.Sprintf("X%015d%s", i, strings.Repeat("x", 112)))
	}
	b.ReportAllocs()
	var offset int64
	for b.Loop() {
		m := r.records[offset%r.end()]
		m.Offset = offset
		offset++
		r.Add(m)
	}
	b.ReportMetric(float64(offset)/b.Elapsed().Seconds(), "records/s")
	if copies := r.Stats().Copies; copies > 0 {
		b.Fatalf("%d records were left out", copies)
	}
}
