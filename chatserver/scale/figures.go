package scale

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Figures are the results of one run, by column of the table.
type figures map[string]float64

// A row is a case that is measured several times.
type row struct {
	name        string
	base        *row    // the row whose medians this row is compared with; nil: none
	most, least figures // the goals for the shares of the base's medians
	runs        []figures
	failed      int // rounds, also those that ended before they had figures
}

// median returns the median of a column over the runs, of which there is at least one.
func (r *row) median(column string) float64 {
	values := make([]float64, len(r.runs))
	for i, f := range r.runs {
		values[i] = f[column]
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// table returns Markdown: a line for each row that has runs, with the medians, and in parentheses
// their share of the base's medians. Below are the failed rounds and the missed goals.
func table(rows []*row, columns ...string) string {
	var b, notes strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
	for _, r := range rows {
		if r.failed > 0 {
			fmt.Fprintf(&notes, "- **%s: %d of its rounds failed**\n", r.name, r.failed)
		}
		if len(r.runs) == 0 {
			continue // -run leaves it out, or each round ended early
		}
		fmt.Fprintf(&b, "| %s |", r.name)
		for _, column := range columns {
			value := r.median(column)
			digits := 0
			if math.Abs(value) < 100 {
				digits = 1
			}
			fmt.Fprintf(&b, " %.*f", digits, value)
			if r.base != nil && len(r.base.runs) > 0 {
				share := value / r.base.median(column)
				fmt.Fprintf(&b, " (%.2f)", share)
				if most, ok := r.most[column]; ok && share > most {
					fmt.Fprintf(&notes, "- **%s: %s: %.2f times that of %s, the goal is at most %.2f**\n", r.name, column, share, r.base.name, most)
				}
				if least, ok := r.least[column]; ok && share < least {
					fmt.Fprintf(&notes, "- **%s: %s: %.2f times that of %s, the goal is at least %.2f**\n", r.name, column, share, r.base.name, least)
				}
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	if notes.Len() == 0 {
		notes.WriteString("- All clients were shown all messages, each once and in one order. No goal was missed.\n")
	}
	return b.String() + "\n" + notes.String()
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
