//go:build scale && linux

package scale

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/child"
	"kafkachat/internal/realkafka"
)

// startBare starts the limit as a process.
func startBare(t *testing.T) target {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
	})
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatalf("starting the limit: %v", err)
	}
	t.Cleanup(p.Kill)
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		t.Fatalf("the limit does not say where it listens: %v", err)
	}
	return target{addr, p.PID()}
}

// limitsOf runs each case on the limit and on a pod, in turns.
func limitsOf(t *testing.T, broker *realkafka.Cluster, server string) (rows []limitRow) {
	for _, c := range limitCases(option[time.Duration]("length")) {
		r := limitRow{limitCase: c}
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			for round := range option[int]("rounds") {
				t.Run(fmt.Sprintf("round=%d/limit", round+1), func(t *testing.T) {
					r.limit = append(r.limit, c.run(&bench{t: t, targets: []target{startBare(t)}}))
				})
				t.Run(fmt.Sprintf("round=%d/pod", round+1), func(t *testing.T) {
					r.pod = append(r.pod, c.run(newBench(t, broker, server, 1)))
				})
			}
		})
		if len(r.limit) > 0 && len(r.pod) > 0 {
			rows = append(rows, r)
		}
	}
	return rows
}

// run measures one server.
func (c limitCase) run(b *bench) (f limitFigures) {
	b.connect(c.clients)
	warm := command{Messages: max(2*c.senders, 200), PerSecond: 200, Senders: c.senders}
	measured := command{Messages: c.messages, PerSecond: c.rate, Senders: c.senders}
	r := b.deliver(b.fromClients, warm)
	f.wrong = r.wrong(warm.Messages)
	r = b.deliver(b.fromClients, measured)
	f.wrong += r.wrong(measured.Messages)
	f.rate = float64(c.messages) / r.took.Seconds()
	f.cpu = float64(r.servers) / float64(r.Delivered)
	f.p50, f.p99 = r.Latency.quantile(0.5), r.Latency.quantile(0.99)
	if f.wrong != "" {
		b.t.Error(f.wrong)
	}
	b.t.Logf("%+v", f)
	return f
}
