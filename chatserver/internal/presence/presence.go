// Package presence lets the pods of a chat find each other, through a small Kafka topic and
// nothing else.
//
// Each pod writes its whole state when the state changes and at regular times, and a goodbye at its
// end. A pod reads only new records: when it begins to read, it writes a hello, and the other pods
// answer. So no pod reads history, and the next record makes up for a lost one.
//
// A pod that writes nothing for a while is gone. But silence counts only while Kafka works: a pod
// declares another one gone only when a record of its own has come back. So while Kafka is down, no
// pod is declared gone.
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
	beat  = 5 * time.Second // a pod writes at least this often,
	pause = time.Second     // and at most this often; the list is shown at most this often, too

	// silent is the silence after which this pod tests Kafka by a record each pause. gone is the
	// silence after which, if Kafka works, the silent pod is taken off the list. With one pause for
	// the test and one for the list, that is less than ten seconds.
	silent = beat + time.Second
	gone   = silent + 1500*time.Millisecond

	look     = 500 * time.Millisecond // between two checks of the clock and of this pod
	farewell = 700 * time.Millisecond // for the goodbye to come back

	// maxPods bounds the other pods that are known, and so the list. More pods are ignored.
	maxPods   = 100
	maxRecord = 2 << 10 // bytes; a pod's name can be six times as long in JSON as chat.MaxPod
	maxPeople = 1_000_000
)

// A Pod is a running chat server.
type Pod struct {
	Name   string `json:"pod"`
	People int    `json:"people"` // that are connected
	Offset int64  `json:"offset"` // up to which the pod has read the topic
	End    int64  `json:"end"`    // of the topic, as the pod knew it
}

// A state is the content of a pod's record, as JSON.
type state struct {
	Pod
	Instance string `json:"instance"`        // random, of one process: two pods may have the same name
	Seq      int64  `json:"seq"`             // grows with each record of an instance
	Hello    bool   `json:"hello,omitempty"` // please answer
	Goodbye  bool   `json:"goodbye,omitempty"`

	heard time.Time // of another pod: when the record arrived, by this pod's clock
}

// Presence writes this pod's state, and knows the states of the other pods.
type Presence struct {
	cluster         *kafka.Cluster
	clientID, topic string
	self            func() Pod
	onChange        func([]Pod)
	log             *slog.Logger
	connect         func(context.Context) // another one in tests

	say     chan []byte   // values to write; received from while the topic can be written to
	goodbye chan struct{} // capacity 1: this pod's goodbye has come back

	mu     sync.Mutex       // guards the following
	own    state            // as it was written last
	said   time.Time        // when own was written
	asked  time.Time        // when the record that tests Kafka was written; zero: it has come back
	test   int64            // Seq of that record
	answer bool             // another pod said hello
	others map[string]state // by instance; a pod that has left stays, so that a late record does not bring it back
	shown  []Pod
	showed time.Time
}

// New returns the presence of a pod in the chat of a topic; it works while Run runs, in a topic of
// its own, named topic and ".pods". Run often calls self for this pod's state. Run calls onChange
// with the pods, sorted by name, at its start and when they have changed. This pod is always one of
// them.
func New(cluster *kafka.Cluster, clientID, topic string, self func() Pod, onChange func([]Pod), log *slog.Logger) *Presence {
	p := &Presence{
		cluster: cluster, clientID: clientID, topic: topic + ".pods", self: self, onChange: onChange, log: log,
		say: make(chan []byte), goodbye: make(chan struct{}, 1),
		own: state{Instance: rand.Text()}, others: make(map[string]state),
	}
	p.connect = p.stayConnected
	return p
}

// Run takes part until ctx ends. Then it writes a goodbye, within a second.
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

// join is called when the topic can be read, at first and after each fault. This pod has missed
// what the others wrote before, so the silence of each starts anew.
func (p *Presence) join() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own.Hello = true
	for instance, o := range p.others {
		o.heard = time.Now()
		p.others[instance] = o
	}
}

// hear takes a record of any pod, this pod included. Any program may write to the topic, so hear
// ignores a record that is not valid.
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
		p.own.Hello = p.own.Hello && !s.Hello
		if s.Seq < p.test {
			break // a slow reader gets to the records of the others later
		}
		// This pod's record came through, and the records of the others would have come before it.
		maps.DeleteFunc(p.others, func(_ string, o state) bool { return !p.asked.IsZero() && p.asked.Sub(o.heard) > gone })
		p.asked = time.Time{}
	case known || len(p.others) < maxPods:
		p.others[s.Instance] = s
		p.answer = p.answer || s.Hello
	}
}

// speak writes this pod's state, if there is a reason. The hello after a fault makes up for records
// that the fault lost.
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
			p.asked, p.test = p.said, s.Seq
		}
	default: // Kafka is away, or the goroutine of work is busy for a moment
	}
}

// next returns this pod's next state. The caller holds p.mu.
func (p *Presence) next() state {
	s := p.own
	s.Seq++
	s.Pod = p.self()
	return s
}

// leave writes a goodbye and waits until it has come back, for farewell at most.
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

// show calls onChange if the list has changed and the last call is at least pause ago.
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

// decode returns the state in a record, if a pod can have written it. All fields are bounded, since
// they stay in memory and are sent to every client.
func decode(value []byte) (s state, ok bool) {
	if len(value) > maxRecord || json.Unmarshal(value, &s) != nil {
		return state{}, false
	}
	s.heard = time.Now()
	return s, chat.CheckPod(s.Name) == nil && chat.CheckPod(s.Instance) == nil &&
		s.Seq > 0 && s.People >= 0 && s.People <= maxPeople && s.Offset >= 0 && s.End >= 0
}
