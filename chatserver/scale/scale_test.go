//go:build scale && linux

package scale

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/realkafka"
)

const kafkaVersion = "4.3.1"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(loadVariable) != "":
		loadMain()
		return
	case os.Getenv(bareVariable) != "":
		bareMain()
		return
	}
	flag.String("scale.pods", "1,2,4,8", "the rungs of the ladder")
	flag.Int("scale.clients", 150, "clients of each pod")
	flag.Int("scale.rate", 100, "messages/s, over all clients")
	flag.Duration("scale.length", 10*time.Second, "how long each thing is measured")
	flag.Int("scale.rounds", 3, "how often the ladder is climbed")
	flag.String("scale.idle", "1x18000,4x15000", "pods x idle clients on each")
	// A pod asks a client that was silent for 25 s for a sign of life: this has one for each.
	flag.Duration("scale.quiet", 26*time.Second, "how long idle clients are measured")
	flag.String("scale.table", "", "a file to write the tables to")
	flag.String("scale.plot", "", "a file to write the plot to, as SVG")
	os.Exit(m.Run())
}

// option reads one of the flags.
func option[T any](name string) T { return flag.Lookup("scale." + name).Value.(flag.Getter).Get().(T) }

func TestScale(t *testing.T) {
	server := podtest.Build(t)
	broker := realkafka.Start(t, realkafka.Options{Version: kafkaVersion})
	text := machine()
	t.Run("ladder", func(t *testing.T) {
		rungs := ladderOf(t, broker, server)
		if t.Failed() && len(rungs) == 0 {
			return
		}
		text += "\n" + ladderTable(rungs)
		writeFile(t, "plot", plot(rungs))
	})
	t.Run("limit", func(t *testing.T) {
		if rows := limitsOf(t, broker, server); len(rows) > 0 {
			text += "\n" + limitTable(rows)
		}
	})
	t.Run("idle", func(t *testing.T) {
		cases, err := parseIdle(option[string]("idle"))
		if err != nil {
			t.Fatal(err)
		}
		var all []idleFigures
		for _, c := range cases {
			t.Run(fmt.Sprintf("pods=%d", c.pods), func(t *testing.T) { all = append(all, idle(newBench(t, broker, server, c.pods), c)) })
		}
		if len(all) > 0 {
			text += "\n" + idleTable(all)
		}
	})
	fmt.Printf("\n%s\n", text)
	writeFile(t, "table", text)
}

// writeFile writes to the file that an option names, if it does.
func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if file := option[string](name); file != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// ladderOf climbs the ladder several times: what else the machine does meanwhile hits all rungs.
func ladderOf(t *testing.T, broker *realkafka.Cluster, server string) (rungs []rung) {
	for word := range strings.SplitSeq(option[string]("pods"), ",") {
		pods, err := strconv.Atoi(word)
		if err != nil || pods < 1 {
			t.Fatalf("-scale.pods: %q is no number of pods", word)
		}
		rungs = append(rungs, rung{pods: pods})
	}
	for round := range option[int]("rounds") {
		for i := range rungs {
			r := &rungs[i]
			ok := t.Run(fmt.Sprintf("round=%d/pods=%d", round+1, r.pods), func(t *testing.T) {
				f := climb(newBench(t, broker, server, r.pods))
				r.runs = append(r.runs, f)
				if f.wrong != "" {
					t.Error(f.wrong)
				}
			})
			if !ok && len(r.runs) <= round {
				return nil // there is nothing to compare
			}
		}
	}
	return slices.DeleteFunc(rungs, func(r rung) bool { return len(r.runs) == 0 }) // those that -run leaves out
}

// climb measures one rung.
func climb(b *bench) (f figures) {
	rate, length, pods := option[int]("rate"), option[time.Duration]("length"), len(b.pods)
	const warmUp = 2 * time.Second
	of := func(d time.Duration, senders int) command {
		return command{Messages: max(1, int(d.Seconds()*float64(rate))), PerSecond: float64(rate), Senders: senders}
	}
	f.clients = pods * option[int]("clients")
	senders := min(16, f.clients) // constant, so that each of them sends as often on all rungs

	b.consume(of(warmUp, 1))
	c := of(length, 1)
	f.consume = float64(b.consume(c).servers) / float64(c.Messages*pods)

	b.connect(f.clients)
	deliver := func(send func(command) time.Duration, c command) run {
		r := b.deliver(send, c)
		f.expected += c.Messages * f.clients
		f.delivered += r.Delivered
		f.wrong += r.wrong(c.Messages)
		return r
	}
	fastEnough := func(r run) {
		if r.sent < 0.98*float64(rate) {
			f.wrong += fmt.Sprintf("only %.0f of %d messages/s could be sent; ", r.sent, rate)
		}
	}
	deliver(b.fromOutside, of(warmUp, 1))
	r := deliver(b.fromOutside, of(length, 1))
	fastEnough(r)
	f.fanOut = float64(r.servers) / float64(r.Delivered)

	deliver(b.fromClients, of(warmUp, senders))
	r = deliver(b.fromClients, of(length, senders))
	fastEnough(r)
	f.cpu = float64(r.servers) / float64(r.Delivered)
	f.sent, f.deliveries = r.sent, float64(r.Delivered)/r.took.Seconds()
	f.p50, f.p99, f.p999 = r.Latency.quantile(0.5), r.Latency.quantile(0.99), r.Latency.quantile(0.999)
	cores := r.took.Seconds() * float64(runtime.NumCPU())
	f.busy, f.byPods, f.byLoad = r.busy, r.use.servers.Seconds()/cores, r.load.Seconds()/cores
	f.rss = b.rss() / float64(pods)
	b.t.Logf("%+v", f)
	return f
}

// idle has many clients come, and after a while gets a few messages to them.
func idle(b *bench, c idleCase) (f idleFigures) {
	f.idleCase = c
	before := b.rss()
	f.connected = b.measure(func() { b.connect(c.clients) }).took
	quiet := b.measure(func() { time.Sleep(option[time.Duration]("quiet")) })
	f.cpu = quiet.servers.Seconds() / quiet.took.Seconds()
	f.rss = (b.rss() - before) / float64(c.clients)

	const messages = 5
	r := b.deliver(b.fromClients, command{Messages: messages, PerSecond: 1, Senders: 1})
	f.slowest, f.wrong = r.Slowest, r.wrong(messages)
	if f.wrong != "" {
		b.t.Error(f.wrong)
	}
	b.t.Logf("%+v", f)
	return f
}
