package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kafkachat/chatserver/internal/chat"
)

// A topic carries what pods say to all pods, in fake time.
type topic struct {
	mu    sync.Mutex
	away  bool
	pods  map[*bench]chan []byte
	count int // records
}

func (tp *topic) write(value []byte) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if tp.away {
		return // lost, as in a fault
	}
	tp.count++
	for _, heard := range tp.pods {
		heard <- value
	}
}

func (tp *topic) records() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.count
}

// setAway ends the buses of all pods, or lets them begin again.
func (tp *topic) setAway(away bool) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.away = away
}

// A bench is a pod that runs on a topic, and what it has shown.
type bench struct {
	*Presence
	t     *testing.T
	topic *topic
	stop  func()

	mu    sync.Mutex // guards the following
	self  Pod
	lists [][]Pod
	at    []time.Time
}

// begin runs a pod until it is stopped, at the latest at the test's end.
func (tp *topic) begin(t *testing.T, name string) *bench {
	b := &bench{t: t, topic: tp, self: Pod{Name: name}}
	b.Presence = newPresence(func() Pod {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.self
	}, func(pods []Pod) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lists, b.at = append(b.lists, pods), append(b.at, time.Now())
	})
	b.run = func(ctx context.Context) {
		for ctx.Err() == nil {
			tp.carry(ctx, b)
			time.Sleep(100 * time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx)
	}()
	b.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(b.stop)
	return b
}

// carry is the bus of a pod until the topic is away.
func (tp *topic) carry(ctx context.Context, b *bench) {
	heard := make(chan []byte, 10_000)
	tp.mu.Lock()
	if tp.away {
		tp.mu.Unlock()
		return
	}
	if tp.pods == nil {
		tp.pods = make(map[*bench]chan []byte)
	}
	tp.pods[b] = heard
	tp.mu.Unlock()
	defer func() {
		tp.mu.Lock()
		delete(tp.pods, b)
		tp.mu.Unlock()
	}()
	joined, clock := b.joined, time.NewTicker(13*time.Millisecond) // seldom together with a look of the pod
	defer clock.Stop()
	for {
		tp.mu.Lock()
		away := tp.away
		tp.mu.Unlock()
		if away {
			return
		}
		select {
		case joined <- struct{}{}:
			joined = nil
		case value := <-heard:
			select {
			case b.heard <- value:
			case <-ctx.Done():
				return
			}
		case value := <-b.say:
			tp.write(value)
		case <-clock.C:
		case <-ctx.Done():
			return
		}
	}
}

// set changes what the pod says of itself.
func (b *bench) set(change func(*Pod)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.self)
}

// all returns the lists that the pod has shown, and when.
func (b *bench) all() ([][]Pod, []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lists), slices.Clone(b.at)
}

func people(n int) func(*Pod) { return func(p *Pod) { p.People = n } }

func (b *bench) shows() string {
	lists, _ := b.all()
	if len(lists) == 0 {
		return ""
	}
	var list []string
	for _, p := range lists[len(lists)-1] {
		list = append(list, fmt.Sprintf("%s:%d", p.Name, p.People))
	}
	return strings.Join(list, " ")
}

// want checks the list that the pod shows within so much time.
func (b *bench) want(within time.Duration, list string) {
	b.t.Helper()
	for deadline := time.Now().Add(within); b.shows() != list; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s shows %q after %v, want %q", b.self.Name, b.shows(), within, list)
		}
	}
}

// soon is within what time a change is to be seen: a pause of the pod that says it, one of the pod that shows it,
// and some looks at the clock.
const soon = 2*pause + 500*time.Millisecond

func bubble(t *testing.T, test func(t *testing.T, tp *topic)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, &topic{}) })
}

func TestPodsSeeEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a := tp.begin(t, "a")
		a.want(soon, "a:0")
		b := tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		b.want(soon, "a:0 b:0")
		c := tp.begin(t, "c")
		for n := range 3 {
			b.set(people(n * 10))
			for _, p := range []*bench{a, b, c} {
				p.want(soon, fmt.Sprintf("a:0 b:%d c:0", n*10))
			}
		}
		begun := time.Now()
		b.stop()
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Errorf("leaving took %v", took)
		}
		a.want(soon, "a:0 c:0")
		c.want(soon, "a:0 c:0")
	})
}

// Each pod's place in the topic, and where the topic ended, are told, at most once a second.
func TestOffsets(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a, b := tp.begin(t, "a"), tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		for range 1000 { // ten seconds of a chat with 100 messages a second
			b.set(func(p *Pod) { p.Offset, p.End = p.Offset+1, p.End+2 })
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(soon)
		lists, at := a.all()
		if last, want := lists[len(lists)-1], []Pod{{"a", 0, 0, 0}, {"b", 0, 1000, 2000}}; !slices.Equal(last, want) {
			t.Errorf("%v, want %v", last, want)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < time.Second {
				t.Errorf("two lists within %v", gap)
			}
		}
		if n := len(lists); n < 8 || n > 16 {
			t.Errorf("%d lists in 12 s", n)
		}
	})
}

func TestQuietWhenNothingChanges(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a, b := tp.begin(t, "a"), tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		b.want(soon, "a:0 b:0")
		time.Sleep(beat)
		before, _ := a.all()
		records := tp.records()
		time.Sleep(time.Minute)
		if after, _ := a.all(); len(after) != len(before) {
			t.Errorf("%d lists", len(after)-len(before))
		}
		if n := tp.records() - records; n > 2*12+2 {
			t.Errorf("%d records of two pods in a minute", n)
		}
	})
}

func TestPodsOfTheSameName(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		one, two := tp.begin(t, "laptop"), tp.begin(t, "laptop")
		one.want(soon, "laptop:0 laptop:0")
		two.want(soon, "laptop:0 laptop:0")
		two.stop()
		one.want(soon, "laptop:0")
	})
}

// A pod that is killed says no goodbye.
func TestKilledPodIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a, b := tp.begin(t, "a"), tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		b.want(soon, "a:0 b:0")
		tp.write([]byte(`{"pod":"killed","instance":"k","seq":1,"people":7}`))
		a.want(soon, "a:0 b:0 killed:7")
		a.want(10*time.Second, "a:0 b:0")
		b.want(soon, "a:0 b:0")
	})
}

// While Kafka is away nobody is declared gone, and each pod still shows its own people.
func TestKafkaAway(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a, b := tp.begin(t, "a"), tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		b.want(soon, "a:0 b:0")
		before, _ := a.all()
		tp.setAway(true)
		time.Sleep(3 * gone)
		a.set(people(3))
		a.want(soon, "a:3 b:0")
		tp.setAway(false)
		b.want(soon, "a:3 b:0")
		time.Sleep(2 * gone)
		after, _ := a.all()
		for _, list := range after[len(before):] {
			if len(list) != 2 {
				t.Errorf("a pod was gone: %v", list)
			}
		}
		// A pod that leaves while Kafka is away does not wait for it.
		tp.setAway(true)
		begun := time.Now()
		b.stop()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}

// Everything that is read from the topic is bounded, in size, number and characters, and so is the list.
func TestForeignRecords(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a := tp.begin(t, "a")
		a.want(soon, "a:0")
		long := strings.Repeat("x", 300)
		for _, record := range []string{
			"", "hello", "{}", "null", "[1]", "\xff\xfe", `"x"`,
			`{"pod":"x","people":1,"seq":1}`, `{"pod":"","instance":"i","people":1,"seq":1}`,
			`{"pod":"x","instance":"i","people":-1,"seq":1}`, `{"pod":"x","instance":"i","people":1e99,"seq":1}`,
			`{"pod":"x","instance":"i","people":1,"seq":0}`, `{"pod":"x","instance":"i","people":1000001,"seq":1}`,
			`{"pod":"x","instance":"i","people":1,"seq":1,"offset":-1}`, `{"pod":"x","instance":"i","people":1,"seq":1,"end":-1}`,
			`{"pod":"` + long + `","instance":"i","people":1,"seq":1}`, `{"pod":"x","instance":"` + long + `","people":1,"seq":1}`,
			`{"pod":"x\u202e","instance":"i","people":1,"seq":1}`, `{"pod":"x\u001b[31m","instance":"i","people":1,"seq":1}`,
			`{"pod":"x\ny","instance":"i","people":1,"seq":1}`, `{"pod":"x","instance":"i\u0000","people":1,"seq":1}`,
			`{"pod":"x","instance":"i","people":1,"seq":1,"fill":"` + strings.Repeat("y", 900_000) + `"}`,
			// One that left before its late record came.
			`{"pod":"gone","instance":"j","people":1,"seq":1}`, `{"pod":"gone","instance":"j","seq":3,"goodbye":true}`,
			`{"pod":"gone","instance":"j","people":1,"seq":2}`,
			// And one that makes sense.
			`{"pod":"z","instance":"k","people":4,"seq":1,"more":true}`,
		} {
			tp.write([]byte(record))
		}
		a.want(soon, "a:0 z:4")
		lists, _ := a.all()
		for _, list := range lists[1:] {
			if len(list) > 2 {
				t.Errorf("shown: %v", list)
			}
		}
		a.want(10*time.Second, "a:0") // z never speaks again
	})
}

func TestManyPods(t *testing.T) {
	bubble(t, func(t *testing.T, tp *topic) {
		a, b := tp.begin(t, "a"), tp.begin(t, "b")
		a.want(soon, "a:0 b:0")
		for i := range 1000 {
			tp.write(fmt.Appendf(nil, `{"pod":%q,"instance":"i%d","seq":1,"people":9}`, strings.Repeat("<", chat.MaxPod-8)+fmt.Sprint(i), i))
		}
		time.Sleep(soon)
		lists, _ := a.all()
		for _, list := range lists {
			event, err := json.Marshal(list)
			if len(list) > maxPods+1 || len(event) > 200<<10 || err != nil {
				t.Errorf("%d pods in %d bytes, %v", len(list), len(event), err)
			}
		}
		b.set(people(5)) // a pod that was there is not driven out
		time.Sleep(soon)
		lists, _ = a.all()
		last := lists[len(lists)-1]
		if !slices.ContainsFunc(last, func(p Pod) bool { return p.Name == "b" && p.People == 5 }) {
			t.Error("b is not shown any more")
		}
		a.want(15*time.Second, "a:0 b:5")
		c := tp.begin(t, "c")
		a.want(soon, "a:0 b:5 c:0")
		c.stop()
	})
}

// The longest name that a pod may have does not make its record too long for the others.
func TestLongestRecord(t *testing.T) {
	t.Parallel()
	s := state{Pod: Pod{strings.Repeat("<", chat.MaxPod), maxPeople, 1 << 62, 1 << 62}, Instance: strings.Repeat("i", maxInstance), Seq: 1 << 62, Hello: true, Goodbye: true}
	if got, ok := decode(s.encode()); !ok || got != s {
		t.Errorf("%d bytes: %v, %+v", len(s.encode()), ok, got)
	}
}
