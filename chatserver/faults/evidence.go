package faults

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kafkachat/chatserver/internal/chatclient"
)

// A journal is everything that happened to one client, in order.
type journal struct {
	name   string
	events []chatclient.Event
}

// A logged is one record of the topic.
type logged struct {
	offset int64
	id     string // "" if it has none
}

// An evidence is the input of a verdict.
type evidence struct {
	journals  []journal
	log       []logged  // the topic at the end, in order
	ended     time.Time // when the fault ended
	remade    bool      // the topic was lost and made again, once: each client must have been told
	anyCopies bool      // a message may have any number of copies: a pod dies, or a leader has stored it and waits for another broker
}

// A tally is a thing that is counted.
type tally int

const (
	sent tally = iota
	acked
	rejected

	// Each of these must be 0.
	lost          // records that a client was not shown and not told to miss, and acked messages that are not in the topic
	unheard       // messages whose sender got no answer
	doubled       // messages shown to a client twice
	outOfOrder    // messages shown after a later one of the same sender
	otherOrder    // messages that do not stand where the topic has them
	rejectedShown // messages that were rejected, and are in the topic
	untold        // clients that were not told that the topic is another one
	surplus       // messages with more copies in the topic than there may be
	silent        // clients that were shown no message that was written after the fault

	gaps   // told
	resets // told
	asked  // questions to the person whether to send a message again
	tallies
)

func (t tally) String() string {
	return [...]string{"sent", "acked", "rejected", "lost", "unanswered", "doubled", "out of order", "other order", "rejected but shown",
		"not told of a reset", "with too many copies", "without a message after the fault", "gaps told", "resets told", "asked to send again"}[t]
}

// A verdict is what the clients saw of one fault. The complaints describe what is wrong.
type verdict struct {
	clients      int
	n            [tallies]int
	fewest, most int             // messages delivered to one client
	copies       int             // of one message in the topic, at most
	recovery     []time.Duration // of each client, sorted: from the fault's end to the first message written after it
	complaints   []string
}

// wrong returns what makes the verdict bad, for any fault; "" if nothing does.
func (v *verdict) wrong() (s string) {
	const median, worst = 10 * time.Second, 20 * time.Second // a client whose message is overdue leaves its pod after 20 s
	for t := lost; t <= silent; t++ {
		if v.n[t] > 0 {
			s += fmt.Sprintf("%d %s; ", v.n[t], t)
		}
	}
	if n := len(v.recovery); n > 0 && (v.recovery[n/2] > median || v.recovery[n-1] > worst) {
		s += fmt.Sprintf("%.1f s until deliveries flowed again; ", v.recovery[n-1].Seconds())
	}
	return s
}

// add makes v the verdict of several runs.
func (v *verdict) add(run *verdict) {
	v.clients = run.clients
	for t := range v.n {
		v.n[t] += run.n[t]
	}
	v.fewest, v.most = min(v.fewest, run.fewest), max(v.most, run.most)
	v.copies = max(v.copies, run.copies)
	v.recovery = append(v.recovery, run.recovery...)
	slices.Sort(v.recovery)
}

// A table has the verdicts of a run of the suite, one line for each fault.
type table []*tableLine

type tableLine struct {
	fault string
	runs  int
	*verdict
}

func (t *table) add(fault string, v *verdict) {
	i := slices.IndexFunc(*t, func(l *tableLine) bool { return l.fault == fault })
	if i < 0 {
		*t = append(*t, &tableLine{fault, 1, v})
		return
	}
	(*t)[i].runs++
	(*t)[i].add(v)
}

// String is the table in Markdown.
func (t *table) String() string {
	s := line("fault", "runs", "clients", func(t tally) any { return t }, "delivered to each", "copies in the topic, at most",
		"flowing again after: median, worst")
	s += "|---|" + strings.Repeat("---:|", strings.Count(s, "|")-2) + "\n"
	for _, l := range *t {
		flowing := "never"
		if n := len(l.recovery); n > 0 {
			flowing = fmt.Sprintf("%.2f s, %.2f s", l.recovery[n/2].Seconds(), l.recovery[n-1].Seconds())
		}
		s += line(l.fault, l.runs, l.clients, func(t tally) any { return l.n[t] }, fmt.Sprintf("%d–%d", l.fewest, l.most), l.copies, flowing)
	}
	return s
}

// line puts the cells of a line into the order of the table.
func line(fault string, runs, clients any, n func(tally) any, delivered string, copies any, flowing string) string {
	cells := []any{fault, runs, clients, n(sent), n(acked), n(rejected), delivered, n(lost), n(unheard), n(doubled), n(outOfOrder),
		n(otherOrder), n(rejectedShown), copies, n(gaps), n(resets), n(asked), flowing}
	return fmt.Sprintf(strings.Repeat("| %v ", len(cells))+"|\n", cells...)
}
