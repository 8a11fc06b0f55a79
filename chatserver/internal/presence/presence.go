// Package presence lets the pods of a chat find each other, through a small Kafka topic and
// nothing else.
//
// Each pod says how it is, as a whole, when that changes and from time to time, and says goodbye.
// It hears only what is said from now on; when it begins to hear it says hello, and the others
// answer. So nobody reads history, and a record that gets lost is made up for by the next.
//
// A pod that says nothing for a while is gone. What measures that is this pod's own voice: only
// when a record of this pod has come back through Kafka are the others known to have had the
// chance. While Kafka is away, nobody is declared gone.
package presence

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkachat/internal/kafka"
)

const (
	beat  = 5 * time.Second // a pod says something at least this often,
	pause = time.Second     // and at most this often; the list is shown at most this often, too

	// silent is the silence after which this pod asks Kafka, by a record each pause, whether it
	// works; gone is the silence after which, if it does, the silent pod is taken off the list.
	// With a pause for the question, and one of the list, that is less than ten seconds.
	silent = beat + time.Second
	gone   = silent + 1500*time.Millisecond

	look     = 100 * time.Millisecond // between two looks at the clock and at this pod
	farewell = 700 * time.Millisecond // for the goodbye to come back

	// maxPods bounds the other pods that are known, and so the list. Who comes when there are so many is not noticed.
	maxPods = 100
)

// A Pod is a running chat server.
type Pod struct {
	Name   string `json:"pod"`
	People int    `json:"people"` // who are connected
	Offset int64  `json:"offset"` // up to which it has read the topic
	End    int64  `json:"end"`    // of the topic, when it said so
}

// An other is another pod.
type other struct {
	state
	heard time.Time // when its last record arrived, by this pod's clock
}

// Presence is this pod among the others.
type Presence struct {
	self     func() Pod
	onChange func([]Pod)

	// Of the bus. None is closed.
	joined chan struct{} // something comes when the bus begins to work, at first and after each fault
	heard  chan []byte   // what was said, by this pod, too
	say    chan []byte   // is taken from while the bus works
	run    func(context.Context)

	// Owned by Run.
	own    state            // as it was said last
	said   time.Time        // when that was
	asked  time.Time        // when the first record was said of those that have not come back; zero: none
	answer bool             // another pod said hello
	others map[string]other // by instance; also those that have left, until a late record cannot bring them back
	shown  []Pod
	showed time.Time
}

// New returns the presence of a pod in the chat of a topic; it works while Run runs, in a topic of
// its own, whose name is topic and ".pods". Run calls self, which says how this pod is, often; it calls
// onChange with the pods, sorted by name, at its start and when they have changed. This pod is always one of them.
func New(cluster *kafka.Cluster, clientID, topic string, self func() Pod, onChange func([]Pod), log *slog.Logger) *Presence {
	p := newPresence(self, onChange)
	b := &bus{cluster: cluster, clientID: clientID, topic: topic + ".pods", log: log, joined: p.joined, heard: p.heard, say: p.say}
	p.run = b.run
	return p
}

func newPresence(self func() Pod, onChange func([]Pod)) *Presence {
	return &Presence{
		self: self, onChange: onChange,
		joined: make(chan struct{}), heard: make(chan []byte), say: make(chan []byte),
		own:    state{Instance: rand.Text()},
		others: make(map[string]other),
	}
}

// Run takes part until ctx ends; then it says goodbye, for which it takes a second at most.
func (p *Presence) Run(ctx context.Context) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var bus sync.WaitGroup
	bus.Go(func() { p.run(life) })
	defer bus.Wait()
	defer end()

	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		p.show()
		select {
		case <-p.joined:
			p.join()
		case value := <-p.heard:
			p.hear(value)
		case <-ticker.C:
			p.speak()
		case <-ctx.Done():
			p.leave()
			return
		}
	}
}

// join is called when the bus works, again or for the first time. Until now this pod was deaf:
// what the others said meanwhile is unknown, so their time starts anew.
func (p *Presence) join() {
	p.own.Hello = true
	for instance, o := range p.others {
		o.heard = time.Now()
		p.others[instance] = o
	}
}

// hear takes what a pod said, also this one. Anybody may write to a topic: what makes no sense
// is no pod's state.
func (p *Presence) hear(value []byte) {
	s, ok := decode(value)
	switch {
	case !ok:
	case s.Instance == p.own.Instance:
		p.hearMyself(s)
	case s.Seq > p.others[s.Instance].Seq && p.hasRoom(s.Instance):
		p.others[s.Instance] = other{s, time.Now()}
		p.answer = p.answer || s.Hello
	}
}

// hasRoom says whether a pod can be noticed. A new one takes the place of one that has left.
func (p *Presence) hasRoom(instance string) bool {
	if _, known := p.others[instance]; known || len(p.others) < maxPods {
		return true
	}
	for left, o := range p.others {
		if o.Goodbye {
			delete(p.others, left)
			return true
		}
	}
	return false
}

// hearMyself is where others are found to be gone: this record came through, and theirs would
// have come before it.
func (p *Presence) hearMyself(s state) {
	if s.Hello {
		p.own.Hello = false
	}
	for instance, o := range p.others {
		if !p.asked.IsZero() && p.asked.Sub(o.heard) > gone {
			delete(p.others, instance)
		}
	}
	p.asked = time.Time{}
}

// speak says how this pod is, if there is a reason to. What gets lost in a fault is said again
// with the hello after it.
func (p *Presence) speak() {
	now, self := time.Now(), p.self()
	reason := self != p.own.Pod || p.own.Hello || p.answer || p.doubts(now)
	if silence := now.Sub(p.said); silence < pause || silence < beat && !reason {
		return
	}
	s := p.own
	s.Seq++
	s.Pod = self
	select {
	case p.say <- s.encode():
		p.own, p.said, p.answer = s, now, false
		if p.asked.IsZero() {
			p.asked = now
		}
	default: // Kafka is away, or the bus is busy for a moment
	}
}

// doubts says whether a pod has been silent for too long.
func (p *Presence) doubts(now time.Time) bool {
	for _, o := range p.others {
		if !o.Goodbye && now.Sub(o.heard) > silent {
			return true
		}
	}
	return false
}

// leave says goodbye and waits for it to come back, if Kafka is there.
func (p *Presence) leave() {
	s := p.own
	s.Seq++
	s.Pod = p.self()
	s.Goodbye = true
	goodbye := s.encode()
	say := p.say
	late := time.NewTimer(farewell)
	defer late.Stop()
	for {
		select {
		case say <- goodbye:
			say = nil // once is enough
		case value := <-p.heard:
			if bytes.Equal(value, goodbye) {
				return
			}
		case <-p.joined:
		case <-late.C:
			return
		}
	}
}

// show calls onChange if the list is another one than the last, and that was a while ago.
func (p *Presence) show() {
	if time.Since(p.showed) < pause {
		return
	}
	here := []state{{Pod: p.self(), Instance: p.own.Instance}}
	for _, o := range p.others {
		if !o.Goodbye {
			here = append(here, o.state)
		}
	}
	slices.SortFunc(here, func(a, b state) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Instance, b.Instance))
	})
	pods := make([]Pod, len(here))
	for i, s := range here {
		pods[i] = s.Pod
	}
	if !slices.Equal(pods, p.shown) {
		p.shown, p.showed = pods, time.Now()
		p.onChange(slices.Clone(pods))
	}
}
