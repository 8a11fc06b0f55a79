// Package presence lets the pods of a chat find each other, through a small Kafka topic and
// nothing else.
//
// Each pod says how it is, as a whole, when that changes and from time to time, and says goodbye.
// It listens only to what is said from now on; when it begins to listen it says hello, and the
// others answer. So nobody reads history, and a record that gets lost is made up for by the next.
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
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafka"
)

const (
	beat  = 5 * time.Second // a pod says something at least this often,
	pause = time.Second     // and at most this often

	// suspicion is the silence after which this pod asks Kafka, by a record each pause, whether it
	// works; gone is the silence after which, if it does, the silent pod is taken off the list.
	// With a pause for the question that is less than ten seconds.
	suspicion = beat + time.Second
	gone      = suspicion + 2*time.Second

	look     = 100 * time.Millisecond // between two looks at the clock and at the number of people
	showing  = 500 * time.Millisecond // onChange is called at most this often
	farewell = 700 * time.Millisecond // for the goodbye to come back
)

// A Pod is a running chat server, and the number of people who are connected to it.
type Pod struct {
	Name   string `json:"pod"`
	People int    `json:"people"`
}

// A state is what a pod says, as JSON.
type state struct {
	Pod      string `json:"pod"`
	Instance string `json:"instance"` // random, of one process: two pods may have the same name
	Seq      int64  `json:"seq"`      // grows with each record of an instance
	People   int    `json:"people"`
	Hello    bool   `json:"hello,omitempty"` // please answer
	Goodbye  bool   `json:"goodbye,omitempty"`
}

// An other is another pod.
type other struct {
	state
	heard time.Time // when its last record arrived, by this pod's clock
}

// Presence is this pod among the others.
type Presence struct {
	people   func() int
	onChange func([]Pod)
	bus      *bus

	// Owned by Run.
	own    state            // as it was said last
	said   time.Time        // when that was
	asked  time.Time        // when the first record was said of those that have not come back; zero: none
	answer bool             // somebody said hello
	others map[string]other // by instance; also who has left, until a late record cannot bring it back
	shown  []Pod
	showed time.Time
}

// New returns the presence of pod in the chat of a topic; it works while Run runs, in a topic of
// its own, whose name is topic and ".pods". Run calls people often; it calls onChange with the
// pods, sorted by name, at its start and when they have changed. This pod is always one of them.
func New(cluster *kafka.Cluster, clientID, topic, pod string, people func() int, onChange func([]Pod), log *slog.Logger) *Presence {
	return &Presence{
		people: people, onChange: onChange,
		bus: &bus{
			cluster: cluster, clientID: clientID, topic: topic + ".pods", log: log,
			joined: make(chan struct{}), heard: make(chan []byte), say: make(chan []byte),
		},
		own:    state{Pod: pod, Instance: rand.Text()},
		others: make(map[string]other),
	}
}

// Run takes part until ctx ends; then it says goodbye, for which it takes a second at most.
func (p *Presence) Run(ctx context.Context) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var bus sync.WaitGroup
	bus.Go(func() { p.bus.run(life) })
	defer bus.Wait()
	defer end()

	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		p.show()
		select {
		case <-p.bus.joined:
			p.join()
		case value := <-p.bus.heard:
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
// is nobody's state.
func (p *Presence) hear(value []byte) {
	var s state
	if err := json.Unmarshal(value, &s); err != nil {
		return
	}
	if s.Instance == p.own.Instance {
		p.hearMyself(s)
		return
	}
	if s.Instance == "" || s.Pod == "" || len(s.Pod) > chat.MaxPod || s.People < 0 || s.Seq <= p.others[s.Instance].Seq {
		return
	}
	p.others[s.Instance] = other{s, time.Now()}
	p.answer = p.answer || s.Hello
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
	now := time.Now()
	people := p.people()
	reason := people != p.own.People || p.own.Hello || p.answer || p.suspects(now)
	if silence := now.Sub(p.said); silence < pause || silence < beat && !reason {
		return
	}
	s := p.own
	s.Seq++
	s.People = people
	select {
	case p.bus.say <- s.encode():
		p.own, p.said, p.answer = s, now, false
		if p.asked.IsZero() {
			p.asked = now
		}
	default: // Kafka is away, or the bus is busy for a moment
	}
}

// suspects says whether somebody has been silent for too long.
func (p *Presence) suspects(now time.Time) bool {
	for _, o := range p.others {
		if !o.Goodbye && now.Sub(o.heard) > suspicion {
			return true
		}
	}
	return false
}

// leave says goodbye and waits for it to come back, if Kafka is there.
func (p *Presence) leave() {
	s := p.own
	s.Seq++
	s.Goodbye = true
	goodbye := s.encode()
	say := p.bus.say
	late := time.NewTimer(farewell)
	defer late.Stop()
	for {
		select {
		case say <- goodbye:
			say = nil // once is enough
		case value := <-p.bus.heard:
			if bytes.Equal(value, goodbye) {
				return
			}
		case <-p.bus.joined:
		case <-late.C:
			return
		}
	}
}

// show calls onChange if the list is another one than the last.
func (p *Presence) show() {
	if time.Since(p.showed) < showing {
		return
	}
	here := []state{{Pod: p.own.Pod, Instance: p.own.Instance, People: p.people()}}
	for _, o := range p.others {
		if !o.Goodbye {
			here = append(here, o.state)
		}
	}
	slices.SortFunc(here, func(a, b state) int {
		return cmp.Or(strings.Compare(a.Pod, b.Pod), strings.Compare(a.Instance, b.Instance))
	})
	pods := make([]Pod, len(here))
	for i, s := range here {
		pods[i] = Pod{s.Pod, s.People}
	}
	if !slices.Equal(pods, p.shown) {
		p.shown, p.showed = pods, time.Now()
		p.onChange(slices.Clone(pods))
	}
}

func (s state) encode() []byte {
	value, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings, numbers and booleans can always be written
	}
	return value
}
