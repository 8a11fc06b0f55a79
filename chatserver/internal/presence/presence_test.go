package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafka"
)

// A bench is a pod that runs, and what it has shown.
type bench struct {
	*Presence
	t    *testing.T
	name string
	stop func()

	mu    sync.Mutex // guards the following
	self  Pod
	lists [][]Pod
}

// begin runs a pod until it is stopped, at the latest at the test's end. Without a cluster it is in topic tp.
func begin(t *testing.T, cluster *kafka.Cluster, chat, name string, tp *topic) *bench {
	b := &bench{t: t, name: name, self: Pod{Name: name}}
	b.Presence = New(cluster, "test-"+name, chat, func() Pod {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.self
	}, func(pods []Pod) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lists = append(b.lists, pods)
	}, slog.New(slog.NewTextHandler(t.Output(), nil)).With("pod", name))
	if cluster == nil {
		b.connect = func(ctx context.Context) { tp.connect(ctx, b) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	b.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(b.stop)
	return b
}

// people changes what the pod says of itself.
func (b *bench) people(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self.People = n
}

func (b *bench) all() [][]Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lists)
}

// want waits for the list that the pods show within so much time.
func want(within time.Duration, list string, pods ...*bench) {
	for _, b := range pods {
		b.t.Helper()
		for deadline := time.Now().Add(within); b.shows() != list; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.t.Fatalf("%s shows %q after %v, want %q", b.name, b.shows(), within, list)
			}
		}
	}
}

func (b *bench) shows() string {
	var list []string
	lists := b.all()
	for _, p := range slices.Concat(lists[max(0, len(lists)-1):]...) {
		list = append(list, fmt.Sprintf("%s:%d", p.Name, p.People))
	}
	return strings.Join(list, " ")
}

// A topic carries what pods say to all pods, in fake time.
type topic struct {
	mu      sync.Mutex // guards the following
	away    bool
	records [][]byte
	slow    *bench // this pod reads only
	reach   int    // so many records
}

// with calls f, which uses the fields.
func (tp *topic) with(f func()) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	f()
}

func (tp *topic) write(value string) {
	tp.with(func() {
		if !tp.away { // else it is lost, as in a fault
			tp.records = append(tp.records, []byte(value))
		}
	})
}

// connect stands in for Presence's.
func (tp *topic) connect(ctx context.Context, b *bench) {
	clock := time.NewTicker(13 * time.Millisecond) // seldom together with a look of the pod
	defer clock.Stop()
	for next := -1; ctx.Err() == nil; {
		var records [][]byte
		say := b.say
		tp.with(func() {
			records = tp.records
			if b == tp.slow {
				records = records[:tp.reach]
			}
			if tp.away {
				say = nil
			}
		})
		switch {
		case say == nil:
			next = -1
		case next < 0:
			next = len(records)
			b.join()
		}
		for ; next >= 0 && next < len(records); next++ {
			b.hear(records[next])
		}
		select {
		case value := <-say:
			tp.write(string(value))
		case <-clock.C:
		case <-ctx.Done():
		}
	}
}

// soon is the time until a change is seen: a pause of the pod that says it, one of the pod that shows it, and some looks.
const soon = 2*pause + 500*time.Millisecond

// bubble begins a test with two pods in fake time.
func bubble(t *testing.T, test func(t *testing.T, tp *topic, a, b *bench)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tp := &topic{}
		a, b := begin(t, nil, "", "a", tp), begin(t, nil, "", "b", tp)
		want(soon, "a:0 b:0", a, b)
		test(t, tp, a, b)
	})
}

// Each pod's place in the topic and the topic's end are told at most once a second, and not while nothing changes.
func TestPace(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		begun := len(a.all())
		for range 1000 { // ten seconds of a chat with 100 messages a second
			b.mu.Lock()
			b.self.Offset, b.self.End = b.self.Offset+1, b.self.End+2
			b.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(beat)
		lists := a.all()
		if last, want := lists[len(lists)-1], []Pod{{"a", 0, 0, 0}, {"b", 0, 1000, 2000}}; !slices.Equal(last, want) {
			t.Errorf("%v, want %v", last, want)
		}
		if n := len(lists) - begun; n < 7 || n > 12 {
			t.Errorf("%d lists in 11 s", n)
		}
		before, after := 0, 0
		tp.with(func() { before = len(tp.records) })
		time.Sleep(time.Minute)
		tp.with(func() { after = len(tp.records) })
		if told, written := len(a.all())-len(lists), after-before; told > 0 || written > 2*12+2 {
			t.Errorf("%d lists and %d records of two pods in a minute without a change", told, written)
		}
	})
}

// A pod that is killed says no goodbye. It is gone soon, whatever the phase of the others' beats.
func TestKilledPodIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		for i := range 10 {
			time.Sleep(time.Duration(i) * beat / 10)
			tp.write(fmt.Sprintf(`{"pod":"killed","instance":"%d","seq":1,"people":7}`, i))
			want(soon, "a:0 b:0 killed:7", a, b)
			want(10*time.Second, "a:0 b:0", a, b)
		}
	})
}

// A pod whose reader stands still, and then reads slowly, learns late what the others have said, and declares none gone.
func TestReaderStalls(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		b.people(7) // so b says nothing in the next seconds, while a speaks
		want(soon, "a:0 b:7", a)
		tp.with(func() { tp.slow, tp.reach = a, len(tp.records) })
		for n := range 5 * gone / pause {
			a.people(int(n) % 2) // it says so each time
			time.Sleep(pause)
		}
		for behind := true; behind; time.Sleep(look) {
			tp.with(func() {
				tp.reach++
				behind = tp.reach < len(tp.records)
			})
		}
		if lists := a.all()[1:]; slices.ContainsFunc(lists, func(list []Pod) bool { return len(list) != 2 }) {
			t.Errorf("shown: %v", lists)
		}
	})
}

// While Kafka is away nobody is gone. After that a silent pod still has the time that any has.
func TestKafkaAway(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		tp.write(`{"pod":"silent","instance":"s","seq":1}`)
		want(soon, "a:0 b:0 silent:0", a, b)
		tp.with(func() { tp.away = true })
		time.Sleep(3 * gone)
		a.people(3)
		want(soon, "a:3 b:0 silent:0", a)
		time.Sleep(pause)
		tp.with(func() { tp.away = false })
		want(soon, "a:3 b:0 silent:0", b)
		time.Sleep(gone - soon)
		want(0, "a:3 b:0 silent:0", a, b)
		want(2*soon, "a:3 b:0", a, b) // it took up to soon until the topic was heard again
		time.Sleep(2 * gone)
		want(0, "a:3 b:0", a, b)
		// A pod that leaves while Kafka is away does not wait for it.
		tp.with(func() { tp.away = true })
		begun := time.Now()
		b.stop()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}

// Everything that is read from the topic is bounded, in size and characters. A pod of the longest name is within the bounds.
func TestForeignRecords(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		before, long := len(a.all()), strings.Repeat("x", 300)
		most := state{Pod: Pod{strings.Repeat("<", chat.MaxPod), maxPeople, 1 << 62, 1 << 62}, Instance: strings.Repeat("i", 64), Seq: 1 << 62}
		for _, record := range []string{
			"", "hello", "{}", "\xff\xfe", `"x"`, `{"pod":"x","seq":1}`, `{"pod":"x","instance":"i","seq":0}`,
			`{"pod":"x","instance":"i","seq":1,"people":-1}`, `{"pod":"x","instance":"i","seq":1,"people":1000001}`,
			`{"pod":"x","instance":"i","seq":1,"offset":-1}`, `{"pod":"x","instance":"i","seq":1,"end":-1}`,
			`{"pod":"` + long + `","instance":"i","seq":1}`, `{"pod":"x","instance":"` + long + `","seq":1}`,
			`{"pod":"","instance":"i","seq":1}`, `{"pod":"x\u202e","instance":"i","seq":1}`, `{"pod":"x","instance":"i\u0000","seq":1}`,
			`{"pod":"x","instance":"i","seq":1,"fill":"` + strings.Repeat("y", 900_000) + `"}`,
			// One that left before its late record came.
			`{"pod":"gone","instance":"j","seq":1}`, `{"pod":"gone","instance":"j","seq":3,"goodbye":true}`, `{"pod":"gone","instance":"j","seq":2}`,
			// And some that make sense.
			`{"pod":"z","instance":"k","people":4,"seq":1,"more":true}`, string(most.encode()),
		} {
			tp.write(record)
		}
		want(soon, most.Name+":1000000 a:0 b:0 z:4", a, b)
		if lists := a.all()[before:]; slices.ContainsFunc(lists, func(list []Pod) bool { return len(list) > 4 }) {
			t.Errorf("shown: %v", lists)
		}
	})
}

func TestManyPods(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic, a, b *bench) {
		for i := range 2 * maxPods { // who has left takes nobody's place
			tp.write(fmt.Sprintf(`{"pod":"left","instance":"l%d","seq":1,"goodbye":true}`, i))
		}
		tp.write(`{"pod":"comes","instance":"c","seq":1}`)
		want(soon, "a:0 b:0 comes:0", a, b)
		for i := range 1000 {
			tp.write(fmt.Sprintf(`{"pod":%q,"instance":"i%d","seq":1,"people":9}`, strings.Repeat("<", chat.MaxPod-8)+fmt.Sprint(i), i))
		}
		time.Sleep(soon)
		b.people(5) // a pod that was there is not driven out
		time.Sleep(soon)
		if !strings.Contains(a.shows(), "b:5") {
			t.Error("b is not shown any more")
		}
		for _, list := range a.all() {
			event, err := json.Marshal(list)
			if len(list) > maxPods+1 || len(event) > 200<<10 || err != nil {
				t.Errorf("%d pods in %d bytes, %v", len(list), len(event), err)
			}
		}
		want(15*time.Second, "a:0 b:5", a)
		same := begin(t, nil, "", "a", tp) // of the same name, in the place of one that is gone
		want(soon, "a:0 a:0 b:5", a, b, same)
		begun := time.Now()
		b.stop()
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Errorf("leaving took %v", took)
		}
		want(soon, "a:0 a:0", a, same)
	})
}
