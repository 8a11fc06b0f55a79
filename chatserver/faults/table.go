package faults

import (
	"fmt"
	"slices"
	"strings"
)

// A table gathers the verdicts of a run of the suite.
type table struct{ rows []*tableRow }

type tableRow struct {
	name     string
	verdicts []*verdict
}

func (t *table) add(name string, v *verdict) {
	i := slices.IndexFunc(t.rows, func(r *tableRow) bool { return r.name == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &tableRow{name: name})
	}
	t.rows[i].verdicts = append(t.rows[i].verdicts, v)
}

// String is the table in Markdown, one line for each fault, over all its runs.
func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| fault | runs | clients | sent | acked | rejected | delivered to each | lost | unanswered | doubled | out of order | other order " +
		"| rejected but shown | copies in the topic, at most | gaps told | resets told | asked to send again | flowing again after: median, worst |\n")
	b.WriteString("|---|" + strings.Repeat("---:|", 17) + "\n")
	for _, r := range t.rows {
		var sum verdict
		sum.fewest = r.verdicts[0].fewest
		for _, v := range r.verdicts {
			sum.clients = max(sum.clients, v.clients)
			sum.sent += v.sent
			sum.acked += v.acked
			sum.rejected += v.rejected
			sum.fewest, sum.most = min(sum.fewest, v.fewest), max(sum.most, v.most)
			sum.lost += v.lost
			sum.unanswered += v.unanswered
			sum.doubled += v.doubled
			sum.outOfOrder += v.outOfOrder
			sum.otherOrder += v.otherOrder
			sum.rejectedShown += v.rejectedShown
			sum.copies = max(sum.copies, v.copies)
			sum.gaps += v.gaps
			sum.resets += v.resets
			sum.asked += v.asked
			sum.recovery = append(sum.recovery, v.recovery...)
		}
		slices.Sort(sum.recovery)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d–%d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s |\n",
			r.name, len(r.verdicts), sum.clients, sum.sent, sum.acked, sum.rejected, sum.fewest, sum.most, sum.lost, sum.unanswered, sum.doubled,
			sum.outOfOrder, sum.otherOrder, sum.rejectedShown, sum.copies, sum.gaps, sum.resets, sum.asked, spread(sum.recovery))
	}
	return b.String()
}
