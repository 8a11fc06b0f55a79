package scale

import (
	"fmt"
	"math/bits"
	"time"
)

// A Tally is what many clients were shown of a run.
type Tally struct {
	Clients    int
	Delivered  int // messages, each counted once for each client
	Doubled    int
	OutOfOrder int             // shown after a later one of the same sender
	Gone       int             // clients whose connection ended
	Orders     map[uint64]int  // a hash of a client's messages in their order -> how many clients have it
	Latency    Histogram       // from sending to each delivery
	Slowest    []time.Duration // of each message: to the last client that was shown it
}

func newTally(messages int) *Tally {
	return &Tally{Orders: make(map[uint64]int), Slowest: make([]time.Duration, messages)}
}

// A journal is what one client was shown of a run.
type journal struct {
	seen   []uint64 // a bit for each message
	latest []int    // of each sender: the number after its latest message
	order  uint64   // a hash of the messages in the order in which they came
}

func newJournal(messages, senders int) *journal {
	return &journal{seen: make([]uint64, (messages+63)/64), latest: make([]int, senders)}
}

// take counts that a client was shown message n, and returns whether for the first time. The
// senders take turns.
func (t *Tally) take(j *journal, n int, latency time.Duration) bool {
	const prime = 1099511628211 // of FNV
	j.order = (j.order ^ uint64(n+1)) * prime
	if j.seen[n/64]&(1<<(n%64)) != 0 {
		t.Doubled++
		return false
	}
	j.seen[n/64] |= 1 << (n % 64)
	latest := &j.latest[n%len(j.latest)]
	if n < *latest {
		t.OutOfOrder++
	}
	*latest = max(*latest, n+1)
	t.Delivered++
	t.Latency[bucket(latency)]++
	t.Slowest[n] = max(t.Slowest[n], latency)
	return true
}

// close counts a client whose journal is complete.
func (t *Tally) close(j *journal) {
	t.Clients++
	t.Orders[j.order]++
}

// merge adds what the clients of another process were shown.
func (t *Tally) merge(other *Tally) {
	t.Clients += other.Clients
	t.Delivered += other.Delivered
	t.Doubled += other.Doubled
	t.OutOfOrder += other.OutOfOrder
	t.Gone += other.Gone
	for order, clients := range other.Orders {
		t.Orders[order] += clients
	}
	for i, n := range other.Latency {
		t.Latency[i] += n
	}
	for n, latency := range other.Slowest {
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
		{t.Gone, "clients cut off"}, {max(0, len(t.Orders)-1), "orders too many"},
	} {
		if count.n != 0 {
			s += fmt.Sprintf("%d %s; ", count.n, count.what)
		}
	}
	return s
}

// A Histogram counts durations. Each power of two has 32 buckets of the same width, so that a
// value read from it is at most 1/32 too large.
type Histogram [1920]uint64

const fine = 5 // bits of a duration that are kept, after the first

// bucket is where a duration is counted.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(0, bits.Len64(v)-fine-1)
	return shift<<fine + int(v>>shift)
}

// quantile is the duration that a share q of all do not exceed; 0 if there are none.
func (h *Histogram) quantile(q float64) time.Duration {
	var all, sum uint64
	for _, n := range h {
		all += n
	}
	for i, n := range h {
		if sum += n; sum > 0 && float64(sum) >= q*float64(all) {
			shift := max(0, i>>fine-1)
			return time.Duration((uint64(i-shift<<fine)+1)<<shift - 1)
		}
	}
	return 0
}
