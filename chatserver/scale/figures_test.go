package scale

import (
	"strings"
	"testing"
	"time"
)

// shown is the tally of clients that were shown these messages, of two senders who take turns.
func shown(clients ...string) *Tally {
	all := newTally(10)
	for _, messages := range clients {
		one, j := newTally(10), newJournal(10, 2)
		for _, digit := range messages {
			n := int(digit - '0')
			one.take(j, n, time.Duration(n+1)*time.Millisecond)
		}
		one.close(j)
		all.merge(one)
	}
	return all
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for clients, want := range map[string]string{
		"0123 0123":   "",
		"1032 1032":   "", // the senders' messages may cross, if they do so for all
		"0123 1032":   "1 orders too many; ",
		"0123 012":    "1 lost; 1 orders too many; ",
		"01233 01233": "2 doubled; ",
		"2013 2013":   "2 out of order; ",
	} {
		if got := shown(strings.Fields(clients)...).wrong(4); got != want {
			t.Errorf("%s: %q, want %q", clients, got, want)
		}
	}
	all := shown("0123", "456789")
	if slowest := all.Slowest[9]; slowest != 10*time.Millisecond {
		t.Errorf("message 9 took %s", slowest)
	}
	for q, want := range map[float64]float64{0.1: 1, 0.5: 5, 0.9: 9, 1: 10} {
		if got := milliseconds(all.Latency.quantile(q)); got < want || got > want*33/32 {
			t.Errorf("quantile %g is %.2f ms, want %g", q, got, want)
		}
	}
}

func TestTableSaysWhatIsMissed(t *testing.T) {
	t.Parallel()
	limit := &row{name: "limit", runs: []figures{{"rate": 8000, "p50": 1}, {"rate": 8000, "p50": 1}, {"rate": 8000, "p50": 9}}}
	most, least := figures{"p50": 2}, figures{"rate": 0.95}
	rows := []*row{
		limit,
		{name: "easy", base: limit, most: most, least: least, runs: []figures{{"rate": 7600, "p50": 2}}},
		{name: "hard", base: limit, most: most, least: least, runs: []figures{{"rate": 7000, "p50": 2.5}}, failed: 1},
		{name: "ended early", base: limit, failed: 3},
		{name: "left out", base: limit},
	}
	const want = `| | rate | p50 |
|---|---:|---:|
| limit | 8000 | 1.0 |
| easy | 7600 (0.95) | 2.0 (2.00) |
| hard | 7000 (0.88) | 2.5 (2.50) |

- **hard: 1 of its rounds failed**
- **hard: rate: 0.88 times that of limit, the goal is at least 0.95**
- **hard: p50: 2.50 times that of limit, the goal is at most 2.00**
- **ended early: 3 of its rounds failed**
`
	if got, good := table(rows, "rate", "p50"), table(rows[:2], "rate"); got != want || !strings.HasSuffix(good, "No goal was missed.\n") {
		t.Errorf("%s\n%s", got, good)
	}
}
