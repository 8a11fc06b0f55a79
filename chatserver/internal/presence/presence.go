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
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkachat/chatserver/internal/chat"
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

	look     = 500 * time.Millisecond // between two looks at the clock and at this pod
	farewell = 700 * time.Millisecond // for the goodbye to come back

	// maxPods bounds the other pods that are known, and so the list. Who comes when there are so many is not noticed.
	maxPods   = 100
	maxRecord = 2 << 10 // bytes; a pod's name can be six times as long in JSON as chat.MaxPod
	maxPeople = 1_000_000
)

// A Pod is a running chat server.
type Pod struct {
	Name   string `json:"pod"`
	People int    `json:"people"` // who are connected
	Offset int64  `json:"offset"` // up to which it has read the topic
	End    int64  `json:"end"`    // of the topic, when it said so
}

// A state is what a pod says, as JSON.
type state struct {
	Pod
	Instance string `json:"instance"`        // random, of one process: two pods may have the same name
	Seq      int64  `json:"seq"`             // grows with each record of an instance
	Hello    bool   `json:"hello,omitempty"` // please answer
	Goodbye  bool   `json:"goodbye,omitempty"`

	heard time.Time // of another pod: when the record arrived, by this pod's clock
}

// Presence is this pod among the others.
type Presence struct {
	cluster         *kafka.Cluster
	clientID, topic string
	self            func() Pod
	onChange        func([]Pod)
	log             *slog.Logger
	connect         func(context.Context) // another one in tests

	say     chan []byte   // is taken from while the topic can be written to
	goodbye chan struct{} // capacity 1: this pod's goodbye has come back

	mu     sync.Mutex       // guards the following
	own    state            // as it was said last
	said   time.Time        // when that was
	asked  time.Time        // when the first record was said of those that have not come back; zero: none
	answer bool             // another pod said hello
	others map[string]state // by instance; also those that have left, until a late record cannot bring them back
	shown  []Pod
	showed time.Time
}

// New returns the presence of a pod in the chat of a topic; it works while Run runs, in a topic of
// its own, whose name is topic and ".pods". Run calls self, which says how this pod is, often; it calls
// onChange with the pods, sorted by name, at its start and when they have changed. This pod is always one of them.
func New(cluster *kafka.Cluster, clientID, topic string, self func() Pod, onChange func([]Pod), log *slog.Logger) *Presence {
	p := &Presence{
		cluster: cluster, clientID: clientID, topic: topic + ".pods", self: self, onChange: onChange, log: log,
		say: make(chan []byte), goodbye: make(chan struct{}, 1),
		own: state{Instance: rand.Text()}, others: make(map[string]state),
	}
	p.connect = p.stayConnected
	return p
}

// Run takes part until ctx ends; then it says goodbye, for which it takes a second at most.
func (p *Presence) Run(ctx context.Context) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var connection sync.WaitGroup
	connection.Go(func() { p.connect(life) })
	defer connection.Wait()
	defer end()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for ctx.Err() == nil {
		p.show()
		p.speak()
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	p.leave()
}

// join is called when the topic can be heard, at first and after each fault. Until then this pod was
// deaf: what the others said meanwhile is unknown, so their time starts anew.
func (p *Presence) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.others) >= maxPods {
		maps.DeleteFunc(p.others, func(_ string, o state) bool { return o.Goodbye })
	}
	before, known := p.others[s.Instance]
	switch {
	case !ok || s.Seq <= before.Seq:
	case s.Instance == p.own.Instance:
		if s.Goodbye {
			select {
			case p.goodbye <- struct{}{}:
			default:
			}
		}
		// This record came through, and those of the others would have come before it.
		p.own.Hello = p.own.Hello && !s.Hello
		maps.DeleteFunc(p.others, func(_ string, o state) bool { return !p.asked.IsZero() && p.asked.Sub(o.heard) > gone })
		p.asked = time.Time{}
	case known || len(p.others) < maxPods:
		p.others[s.Instance] = s
		p.answer = p.answer || s.Hello
	}
}

// speak says how this pod is, if there is a reason to. What gets lost in a fault is said again
// with the hello after it.
func (p *Presence) speak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.next()
	reason := s.Pod != p.own.Pod || s.Hello || p.answer
	for _, o := range p.others { // one that has been silent for too long
		reason = reason || !o.Goodbye && time.Since(o.heard) > silent
	}
	if silence := time.Since(p.said); silence < pause || silence < beat && !reason {
		return
	}
	select {
	case p.say <- s.encode():
		p.own, p.said, p.answer = s, time.Now(), false
		if p.asked.IsZero() {
			p.asked = p.said
		}
	default: // Kafka is away, or the bus is busy for a moment
	}
}

// next is what this pod says next. It needs p.mu.
func (p *Presence) next() state {
	s := p.own
	s.Seq++
	s.Pod = p.self()
	return s
}

// leave says goodbye and waits for it to come back, if Kafka is there.
func (p *Presence) leave() {
	p.mu.Lock()
	s := p.next()
	p.mu.Unlock()
	s.Goodbye = true
	late := time.After(farewell)
	select {
	case p.say <- s.encode():
	case <-late:
		return
	}
	select {
	case <-p.goodbye:
	case <-late:
	}
}

// show calls onChange if the list is another one than the last, and that was a while ago.
func (p *Presence) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.showed) < pause {
		return
	}
	here := []state{{Pod: p.self(), Instance: p.own.Instance}}
	for _, o := range p.others {
		if !o.Goodbye {
			here = append(here, o)
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
		p.onChange(pods)
	}
}

func (s state) encode() []byte {
	value, _ := json.Marshal(s) // strings, numbers and booleans can always be written
	return value
}

// decode returns what a record says, if it can be a pod's: everything in it is bounded, since it stays in
// memory and is sent to every client.
func decode(value []byte) (s state, ok bool) {
	if len(value) > maxRecord || json.Unmarshal(value, &s) != nil {
		return state{}, false
	}
	s.heard = time.Now()
	return s, chat.CheckPod(s.Name) == nil && chat.CheckPod(s.Instance) == nil &&
		s.Seq > 0 && s.People >= 0 && s.People <= maxPeople && s.Offset >= 0 && s.End >= 0
}
