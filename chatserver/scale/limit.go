package scale

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A limitCase is a load that is put onto one pod, and onto the limit: a loop that does nothing but
// to take messages and to write what has gathered to every client, without Kafka and without a log.
type limitCase struct {
	name             string
	clients, senders int
	rate             float64 // messages/s; 0: each sender sends the next message when its last one is back
	messages         int
	// What the pod is to reach, as shares of the limit's figures; 0: no goal.
	p50, p99, cpu float64 // at most
	kept          float64 // of the limit's messages/s, at least
}

func limitCases(length time.Duration) []limitCase {
	n := func(rate float64) int { return int(rate * length.Seconds()) }
	return []limitCase{
		{name: "200 messages/s", clients: 1000, senders: 10, rate: 200, messages: n(200), p50: 3, p99: 2.5, cpu: 1, kept: 0.98},
		{name: "2,000 messages/s", clients: 1000, senders: 100, rate: 2000, messages: n(2000), p50: 2.5, cpu: 0.85, kept: 0.98},
		{name: "8,000 messages/s", clients: 1000, senders: 800, rate: 8000, messages: n(8000), kept: 0.95},
		{name: "closed loop", clients: 100, senders: 100, messages: n(5000)},
	}
}

// limitFigures are what one run of a case found.
type limitFigures struct {
	rate     float64 // messages/s until everybody had everything
	cpu      float64 // of the server, per delivery, in ns
	p50, p99 time.Duration
	wrong    string
}

// A limitRow is a case with its runs, of the limit and of the pod in turns.
type limitRow struct {
	limitCase
	limit, pod []limitFigures
}

func medianOf(runs []limitFigures, of func(limitFigures) float64) float64 {
	values := make([]float64, len(runs))
	for i, f := range runs {
		values[i] = of(f)
	}
	return median(values)
}

// limitTable is Markdown: two lines for each case, the medians of its runs, and then what is wrong.
func limitTable(rows []limitRow) string {
	var b, notes strings.Builder
	b.WriteString("| 1 pod, and the limit | clients | who | messages/s | CPU per delivery, ns | of the limit | p50, ms | of the limit | p99, ms | of the limit |\n")
	b.WriteString("|---|---:|---|" + strings.Repeat("---:|", 7) + "\n")
	rate := func(f limitFigures) float64 { return f.rate }
	cpu := func(f limitFigures) float64 { return f.cpu }
	p50 := func(f limitFigures) float64 { return milliseconds(f.p50) }
	p99 := func(f limitFigures) float64 { return milliseconds(f.p99) }
	for _, r := range rows {
		m := func(of func(limitFigures) float64) float64 { return medianOf(r.pod, of) }
		share := func(of func(limitFigures) float64) float64 { return m(of) / medianOf(r.limit, of) }
		fmt.Fprintf(&b, "| %s | %s | the limit | %s | %.0f | | %.1f | | %.1f | |\n", r.name, thousands(r.clients),
			thousands(int(math.Round(medianOf(r.limit, rate)))), medianOf(r.limit, cpu), medianOf(r.limit, p50), medianOf(r.limit, p99))
		fmt.Fprintf(&b, "| | | the pod | %s | %.0f | %.2f | %.1f | %.2f | %.1f | %.2f |\n",
			thousands(int(math.Round(m(rate)))), m(cpu), share(cpu), m(p50), share(p50), m(p99), share(p99))
		var missed []string
		for _, goal := range []struct {
			what     string
			is, most float64
		}{
			{"CPU", share(cpu), r.cpu}, {"p50", share(p50), r.p50}, {"p99", share(p99), r.p99},
		} {
			if goal.most > 0 && goal.is > goal.most {
				missed = append(missed, fmt.Sprintf("%s is %.2f of the limit's, and the goal is %.2f", goal.what, goal.is, goal.most))
			}
		}
		if kept := share(rate); kept < r.kept {
			missed = append(missed, fmt.Sprintf("messages/s are %.2f of the limit's, and the goal is %.2f", kept, r.kept))
		}
		if len(missed) > 0 {
			fmt.Fprintf(&notes, "- %s: **%s**.\n", r.name, strings.Join(missed, "; "))
		}
		notes.WriteString(wrongRuns(r.name+", the limit", r.limit) + wrongRuns(r.name+", the pod", r.pod))
	}
	if notes.Len() > 0 {
		return b.String() + "\n" + notes.String()
	}
	return b.String()
}

func wrongRuns(name string, runs []limitFigures) (lines string) {
	for i, f := range runs {
		if f.wrong != "" {
			lines += fmt.Sprintf("- **%s, run %d: %s**\n", name, i+1, strings.TrimSuffix(f.wrong, "; "))
		}
	}
	return lines
}
