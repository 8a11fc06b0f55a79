//go:build scale && linux

package scale

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/realkafka"
)

func TestMain(m *testing.M) {
	if role := map[string]func(){"load": loadMain, "bare": bareMain}[os.Getenv(roleVariable)]; role != nil {
		role()
		return
	}
	flag.String("scale.ladder", "1x150,2x150,4x150,8x150", "pods x clients of each, in turns")
	flag.Float64("scale.rate", 100, "messages/s of the ladder, over all clients")
	flag.Duration("scale.length", 10*time.Second, "how long each thing is measured")
	flag.Int("scale.rounds", 3, "how often the ladder is climbed, and each pair is measured")
	flag.String("scale.idle", "1x18000,4x15000", "pods x idle clients of each")
	os.Exit(m.Run())
}

func option[T any](name string) T { return flag.Lookup("scale." + name).Value.(flag.Getter).Get().(T) }

type measurement struct {
	*row
	bench   func(t *testing.T) *bench
	measure func(b *bench) figures
}

// take takes all measurements in turns, so that what else the machine does meanwhile hits them alike.
func take(t *testing.T, all []measurement, rounds int) (rows []*row) {
	for _, m := range all {
		rows = append(rows, m.row)
	}
	for round := range rounds {
		for _, m := range all {
			if !t.Run(fmt.Sprintf("%s/round %d", m.name, round+1), func(t *testing.T) {
				f := m.measure(m.bench(t))
				m.runs = append(m.runs, f)
				t.Log(f)
			}) {
				m.failed++
			}
		}
	}
	return rows
}

func TestScale(t *testing.T) {
	server := podtest.Build(t)
	brokers := realkafka.Start(t, realkafka.Options{}).Addrs()
	pods := func(n int) func(*testing.T) *bench {
		return func(t *testing.T) *bench { return newBench(t, brokers, server, n) }
	}
	text := machine()
	t.Run("ladder", func(t *testing.T) {
		var all []measurement
		for _, c := range parse(t, "ladder") {
			m := measurement{&row{name: c.String(), most: figures{perDelivery: 1.1, unpublished: 1.1}}, pods(c.pods), c.climb}
			if len(all) > 0 {
				m.base = all[0].row
			}
			all = append(all, m)
		}
		text += "\n" + table(take(t, all, option[int]("rounds")), "deliveries/s", perDelivery, unpublished,
			"CPU per consumed message and pod, µs", "RSS per pod, MB", p50, p99, p999, "cores busy, %", "with pods", "with load")
	})
	t.Run("limit", func(t *testing.T) {
		var all []measurement
		seconds := option[time.Duration]("length").Seconds()
		for _, c := range []limitCase{
			{"200 messages/s", 1000, 10, 200, 200 * seconds, figures{p50: 3, p99: 2.5, perDelivery: 1}, figures{"messages/s": 0.98}},
			{"2000 messages/s", 1000, 100, 2000, 2000 * seconds, figures{p50: 2.5, perDelivery: 0.85}, figures{"messages/s": 0.98}},
			{"8000 messages/s", 1000, 800, 8000, 8000 * seconds, nil, figures{"messages/s": 0.95}},
			{"closed loop", 100, 100, 0, 5000 * seconds, nil, nil},
		} {
			limit := &row{name: c.name + ", the limit"}
			all = append(all, measurement{limit, newLimit, c.run},
				measurement{&row{name: c.name + ", 1 pod", base: limit, most: c.most, least: c.least}, pods(1), c.run})
		}
		text += "\n" + table(take(t, all, option[int]("rounds")), "messages/s", perDelivery, p50, p99)
	})
	t.Run("idle", func(t *testing.T) {
		var all []measurement
		for _, c := range parse(t, "idle") {
			all = append(all, measurement{&row{name: c.String()}, pods(c.pods), c.idle})
		}
		text += "\n" + table(take(t, all, 1), "all connected after, s", "RSS per client, bytes", "CPU of all pods, % of a core",
			"a message at the last client after, ms: median", "worst")
	})
	fmt.Printf("\n%s\n", text)
}

const (
	perDelivery = "CPU per delivery, ns"
	unpublished = "without publishing, ns"
	p50         = "p50, ms"
	p99         = "p99, ms"
	p999        = "p99.9, ms"
)

type crowd struct{ pods, each int }

func (c crowd) String() string {
	return fmt.Sprintf("%d clients on %d %s", c.pods*c.each, c.pods, map[bool]string{true: "pod", false: "pods"}[c.pods == 1])
}

// parse reads an option such as "1x18000,4x15000".
func parse(t *testing.T, name string) (all []crowd) {
	for word := range strings.SplitSeq(option[string](name), ",") {
		var c crowd
		if _, err := fmt.Sscanf(word, "%dx%d", &c.pods, &c.each); err != nil || c.pods < 1 || c.each < 1 {
			t.Fatalf("-scale.%s: %q is not a number of pods, x, and the number of clients of each", name, word)
		}
		all = append(all, c)
	}
	return all
}

func (c crowd) climb(b *bench) figures {
	rate, length, clients := option[float64]("rate"), option[time.Duration]("length"), c.pods*c.each
	const warmUp = 2 * time.Second
	of := func(d time.Duration, senders int) command {
		return command{Messages: max(1, int(d.Seconds()*rate)), PerSecond: rate, Senders: senders}
	}
	consume := func(d time.Duration) use {
		return b.measure(func() {
			b.fromOutside(of(d, 1))
			time.Sleep(100 * time.Millisecond) // asking whether the pods have read everything would cost the CPU that is measured
		})
	}
	consume(warmUp)
	consumed := consume(length)

	b.connect(clients)
	deliver := func(send func(command) time.Duration, senders int) run {
		b.deliver(send, of(warmUp, senders))
		r := b.deliver(send, of(length, senders))
		if r.sent < 0.98*rate {
			b.t.Errorf("only %.0f of %.0f messages/s could be sent", r.sent, rate)
		}
		return r
	}
	outside := deliver(b.fromOutside, 1)
	r := deliver(b.fromClients, min(16, clients)) // as many on all rungs, so that each of them sends as often
	f := r.figures()
	cores := r.took.Seconds() * float64(runtime.NumCPU()) / 100
	f["cores busy, %"], f["with pods"], f["with load"] = 100*r.busy, r.servers.Seconds()/cores, r.load.Seconds()/cores
	f[unpublished] = outside.figures()[perDelivery]
	f["CPU per consumed message and pod, µs"] = consumed.servers.Seconds() * 1e6 / float64(of(length, 1).Messages*c.pods)
	f["RSS per pod, MB"] = b.rss() / 1e6 / float64(c.pods)
	return f
}

func (r run) figures() figures {
	return figures{
		"deliveries/s": float64(r.Delivered) / r.took.Seconds(),
		perDelivery:    float64(r.servers) / float64(r.Delivered),
		p50:            milliseconds(r.Latency.quantile(0.5)), p99: milliseconds(r.Latency.quantile(0.99)), p999: milliseconds(r.Latency.quantile(0.999)),
	}
}

// A limitCase is a load that is put onto one pod, and onto the limit.
type limitCase struct {
	name             string
	clients, senders int
	rate             float64 // messages/s; 0 is a closed loop
	messages         float64
	most, least      figures // of the pod, as shares of the limit's
}

func (c limitCase) run(b *bench) figures {
	b.connect(c.clients)
	b.deliver(b.fromClients, command{Messages: max(2*c.senders, 200), PerSecond: 200, Senders: c.senders})
	r := b.deliver(b.fromClients, command{Messages: int(c.messages), PerSecond: c.rate, Senders: c.senders})
	f := r.figures()
	f["messages/s"] = c.messages / r.took.Seconds()
	return f
}

func (c crowd) idle(b *bench) figures {
	before, clients := b.rss(), c.pods*c.each
	connected := b.measure(func() { b.connect(clients) }).took
	quiet := b.measure(func() { time.Sleep(26 * time.Second) }) // a pod sends a ping to a client that was silent for 25 s
	memory := (b.rss() - before) / float64(clients)
	r := b.deliver(b.fromClients, command{Messages: 5, PerSecond: 1, Senders: 1})
	slices.Sort(r.Slowest)
	return figures{
		"all connected after, s": connected.Seconds(), "RSS per client, bytes": memory,
		"CPU of all pods, % of a core":                   100 * quiet.servers.Seconds() / quiet.took.Seconds(),
		"a message at the last client after, ms: median": milliseconds(r.Slowest[2]), "worst": milliseconds(r.Slowest[4]),
	}
}
