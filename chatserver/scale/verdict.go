package scale

import (
	"fmt"
	"time"
)

// A journal is what one client was shown of a run.
type journal struct {
	seen       []uint64 // a bit for each message
	latest     []int    // of each sender: the number after its latest message
	order      uint64   // a hash of the messages in the order in which they came
	doubled    int
	outOfOrder int
}

func newJournal(messages, senders int) *journal {
	return &journal{seen: make([]uint64, (messages+63)/64), latest: make([]int, senders)}
}

// take notes message n, and says whether the client was not shown it before. The senders take turns.
func (j *journal) take(n int) bool {
	const prime = 1099511628211 // of FNV
	j.order = (j.order ^ uint64(n+1)) * prime
	if j.seen[n/64]&(1<<(n%64)) != 0 {
		j.doubled++
		return false
	}
	j.seen[n/64] |= 1 << (n % 64)
	latest := &j.latest[n%len(j.latest)]
	if n < *latest {
		j.outOfOrder++
	}
	*latest = max(*latest, n+1)
	return true
}

// A Tally is what many clients were shown of a run.
type Tally struct {
	Clients    int
	Delivered  int // messages, each counted once for each client
	Doubled    int
	OutOfOrder int // shown after a later one of the same sender
	Gone       int // clients whose connection ended
	Orders     map[uint64]int
	Latency    Histogram       // from sending to each delivery
	Slowest    []time.Duration // of each message: to the last client that was shown it
}

// close adds up what the journals say.
func (t *Tally) close(journals []*journal) {
	t.Orders = make(map[uint64]int)
	for _, j := range journals {
		t.Clients++
		t.Doubled += j.doubled
		t.OutOfOrder += j.outOfOrder
		t.Orders[j.order]++
	}
}

// note counts one delivery.
func (t *Tally) note(n int, latency time.Duration) {
	t.Delivered++
	t.Latency.add(latency)
	t.Slowest[n] = max(t.Slowest[n], latency)
}

// merge adds what the clients of another process were shown.
func (t *Tally) merge(other *Tally) {
	t.Clients += other.Clients
	t.Delivered += other.Delivered
	t.Doubled += other.Doubled
	t.OutOfOrder += other.OutOfOrder
	t.Gone += other.Gone
	if t.Orders == nil {
		t.Orders = make(map[uint64]int)
	}
	for order, clients := range other.Orders {
		t.Orders[order] += clients
	}
	t.Latency.merge(other.Latency)
	for n, latency := range other.Slowest {
		if n == len(t.Slowest) {
			t.Slowest = append(t.Slowest, 0)
		}
		t.Slowest[n] = max(t.Slowest[n], latency)
	}
}

// wrong says what is wrong with the delivery of so many messages to all clients; "" if nothing is.
func (t *Tally) wrong(messages int) (s string) {
	for _, count := range []struct {
		n    int
		what string
	}{
		{messages*t.Clients - t.Delivered, "lost"}, {t.Doubled, "doubled"}, {t.OutOfOrder, "out of order"},
		{t.Gone, "clients cut off"},
	} {
		if count.n != 0 {
			s += fmt.Sprintf("%d %s; ", count.n, count.what)
		}
	}
	if len(t.Orders) > 1 {
		s += fmt.Sprintf("%d different orders; ", len(t.Orders))
	}
	return s
}
