package scale

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what one run of a rung found. CPU is user and system time of the pods, in ns.
type figures struct {
	clients             int
	expected, delivered int // messages times clients, in all phases
	wrong               string

	sent, deliveries     float64 // a second, while clients wrote
	cpu                  float64 // per delivery, while clients wrote
	fanOut               float64 // per delivery, while another program wrote to the topic
	consume              float64 // per message and pod, while there were no clients
	rss                  float64 // bytes per pod
	p50, p99, p999       time.Duration
	busy, byPods, byLoad float64 // shares of the machine's cores while clients wrote: in all, and of whom
}

// A rung is one number of pods, and its runs.
type rung struct {
	pods int
	runs []figures
}

func (r rung) String() string {
	if r.pods == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", r.pods)
}

// wish is by how much a delivery may cost more at several pods than at one.
const wish = 0.10

// median of what each run found; of two in the middle, their mean. NaN if there are no runs.
func (r rung) median(of func(figures) float64) float64 {
	values := make([]float64, len(r.runs))
	for i, f := range r.runs {
		values[i] = of(f)
	}
	return median(values)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

func cpu(f figures) float64    { return f.cpu }
func fanOut(f figures) float64 { return f.fanOut }
func p50(f figures) float64    { return milliseconds(f.p50) }
func p99(f figures) float64    { return milliseconds(f.p99) }
func p999(f figures) float64   { return milliseconds(f.p999) }

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// ladderTable is Markdown: a line for each rung, the median of its runs, and then what is wrong.
func ladderTable(rungs []rung) string {
	var b, wrong strings.Builder
	b.WriteString("| pods | clients | messages/s | deliveries/s | delivered | CPU per delivery, ns | to 1 pod | without publishing, ns | to 1 pod " +
		"| CPU per consumed message and pod, µs | RSS per pod, MB | p50, ms | p99, ms | p99.9, ms | cores busy, %: pods + load + Kafka and others |\n")
	b.WriteString("|" + strings.Repeat("---:|", 15) + "\n")
	for _, r := range rungs {
		expected, delivered := 0, 0
		for i, f := range r.runs {
			expected += f.expected
			delivered += f.delivered
			if f.wrong != "" {
				fmt.Fprintf(&wrong, "- **%s, round %d: %s**\n", r, i+1, strings.TrimSuffix(f.wrong, "; "))
			}
		}
		all := "all of " + thousands(expected)
		if delivered != expected {
			all = fmt.Sprintf("**%s of %s**", thousands(delivered), thousands(expected))
		}
		rounded := func(of func(figures) float64) string { return thousands(int(math.Round(r.median(of)))) }
		share := func(of func(figures) float64) float64 { return 100 * r.median(of) }
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %s | %s | %.0f | %.0f | %.1f | %.1f | %.1f | %.0f + %.0f + %.0f |\n",
			r.pods, thousands(r.runs[0].clients),
			rounded(func(f figures) float64 { return f.sent }), rounded(func(f figures) float64 { return f.deliveries }), all,
			rounded(cpu), against(rungs[0], r, cpu), rounded(fanOut), against(rungs[0], r, fanOut),
			r.median(func(f figures) float64 { return f.consume })/1e3, r.median(func(f figures) float64 { return f.rss })/1e6,
			r.median(p50), r.median(p99), r.median(p999),
			share(func(f figures) float64 { return f.byPods }), share(func(f figures) float64 { return f.byLoad }),
			share(func(f figures) float64 { return f.busy - f.byPods - f.byLoad }))
	}
	fmt.Fprintf(&b, "\n- CPU per delivery: %s.\n- Without publishing: %s.\n", drift(rungs, cpu), drift(rungs, fanOut))
	return b.String() + wrong.String()
}

// change is how much more a rung's figure is than the first one's, as a share of it.
func change(first, r rung, of func(figures) float64) float64 {
	return r.median(of)/first.median(of) - 1
}

func against(first, r rung, of func(figures) float64) string {
	if r.pods == first.pods {
		return "–"
	}
	return fmt.Sprintf("%+.0f %%", 100*change(first, r, of))
}

// drift says how a figure differs from the first rung's, and whether that is as wished.
func drift(rungs []rung, of func(figures) float64) string {
	var parts []string
	worst := 0.0
	for _, r := range rungs[1:] {
		parts = append(parts, fmt.Sprintf("%s at %s", against(rungs[0], r, of), r))
		worst = max(worst, change(rungs[0], r, of))
	}
	if len(parts) == 0 {
		return "only one number of pods"
	}
	met := "not more than"
	if worst > wish {
		met = "**more than**"
	}
	return fmt.Sprintf("%s, so %s %.0f %% above %s", strings.Join(parts, ", "), met, 100*wish, rungs[0])
}

// An idleCase is so many clients, evenly on so many pods.
type idleCase struct{ pods, clients int }

// parseIdle reads cases such as "1x18000,4x15000": pods, and clients on each.
func parseIdle(s string) (cases []idleCase, err error) {
	for word := range strings.SplitSeq(s, ",") {
		var pods, each int
		if _, err := fmt.Sscanf(word, "%dx%d", &pods, &each); err != nil || pods < 1 || each < 1 {
			return nil, fmt.Errorf("%q is not the number of pods, x, and the number of clients on each", word)
		}
		cases = append(cases, idleCase{pods, pods * each})
	}
	return cases, nil
}

// idleFigures are what idle clients cost, and how long a message takes to all of them.
type idleFigures struct {
	idleCase
	connected time.Duration
	rss       float64         // bytes per client that the pods have grown by
	cpu       float64         // cores of all pods, while nothing was said
	slowest   []time.Duration // of each message, to the last client
	wrong     string
}

// idleTable is Markdown: a line for each case.
func idleTable(all []idleFigures) string {
	var b strings.Builder
	b.WriteString("| pods | idle clients | all connected after, s | RSS per client, bytes | CPU of all pods, % of a core " +
		"| a message at the last client after, ms: median | worst | delivered |\n|" + strings.Repeat("---:|", 8) + "\n")
	for _, f := range all {
		var slowest []float64
		for _, d := range f.slowest {
			slowest = append(slowest, milliseconds(d))
		}
		delivered := "all"
		if f.wrong != "" {
			delivered = "**" + strings.TrimSuffix(f.wrong, "; ") + "**"
		}
		fmt.Fprintf(&b, "| %d | %s | %.1f | %s | %.1f | %.0f | %.0f | %s |\n", f.pods, thousands(f.clients), f.connected.Seconds(),
			thousands(int(f.rss)), 100*f.cpu, median(slowest), slices.Max(slowest), delivered)
	}
	return b.String()
}

// thousands writes n with commas.
func thousands(n int) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
