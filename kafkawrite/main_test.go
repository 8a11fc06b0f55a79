package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) { clitest.Main(m, "kafkawrite", main, "kafkaread") }

func TestScripts(t *testing.T) { clitest.Scripts(t) }

// TestInterruptFlushes presses Ctrl-C once: what was read is written. After a second time the report counts all that was read.
func TestInterruptFlushes(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
	twice := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
	p.WaitFor(&p.Out, "Enter lines")
	twice.WaitFor(&twice.Out, "Enter lines")
	proxy.Pause(kafkatest.Answers) // neither gets a producer id
	p.Write(clitest.Numbers(0, 3))
	twice.Write(clitest.Numbers(0, 3))
	twice.WaitFor(&twice.Err, "is not acknowledged yet")
	giveUp(twice)
	twice.WaitFor(&twice.Err, `0 of [1-3] lines written; line 1: not acknowledged within \d+s: `)
	p.WaitFor(&p.Err, `line 1 is not acknowledged yet: .*; waiting up to 2m0s\n`)
	p.Interrupt()
	p.WaitFor(&p.Err, `line 1 is not acknowledged yet; waiting up to 2m0s, Ctrl-C again ends at once\n`)
	proxy.Resume()
	p.WantExit(0)
	n := strings.Count(clitest.Stored(t, brokers, topic), "\n") // fewer than 3 if Ctrl-C came before they were read
	p.WaitFor(&p.Err, fmt.Sprintf(`(?s)kafkawrite: line 1 is acknowledged now\n.*kafkawrite: %d of %[1]d lines written\n$`, n))
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, n))
}

// TestSecondInterruptStops presses Ctrl-C twice while a broker does not answer: it ends at once, and says what may be
// missing. What is stored is a beginning of what it read, with at least the lines that it says were written.
func TestSecondInterruptStops(t *testing.T) {
	for name, fault := range map[string]func(*kafkatest.Proxy){
		"hangs": func(proxy *kafkatest.Proxy) { proxy.Pause(kafkatest.Requests) },
		"stores without an answer": func(proxy *kafkatest.Proxy) {
			proxy.SetFault(func(r kafkatest.Request) kafkatest.Action { return kafkatest.Action{CutAfter: r.Key == kmsg.Produce} })
		},
	} {
		t.Run("a broker that "+name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			p := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
			p.Write(clitest.Numbers(0, 100_000))
			reader := clitest.Start(t, brokers, topic, "kafkaread", "-offset", "oldest")
			reader.WaitFor(&reader.Out, "\n99999\n")
			fault(proxy)
			said := strings.Count(p.Err.String(), "is not acknowledged yet") // because of a busy machine, not of the fault
			go p.Write(clitest.Numbers(100_000, 200_000))                    // waits if the pipe is full
			p.WaitFor(&p.Err, fmt.Sprintf("(?s)(is not acknowledged yet.*){%d}", said+1))
			giveUp(p)
			report := regexp.MustCompile(`(?m)^kafkawrite: \d+ of .*$`).FindString(p.Err.String())
			var written, read, line int
			if _, err := fmt.Sscanf(report, "kafkawrite: %d of %d lines written; line %d: ", &written, &read, &line); err != nil || line != written+1 {
				t.Fatalf("%d lines were written, and line %d was not: %v in %q", written, line, err, p.Err.String())
			}
			stored := clitest.Stored(t, brokers, topic)
			if n := strings.Count(stored, "\n"); n < written || n > read || !strings.HasPrefix(clitest.Numbers(0, 200_000), stored) {
				t.Errorf("%d lines are stored, or others; it says %d of %d", n, written, read)
			}
		})
	}
}

// giveUp presses Ctrl-C twice while a line is not acknowledged.
func giveUp(p *clitest.Process) {
	p.Interrupt()
	p.WaitFor(&p.Err, "Ctrl-C again ends at once") // signals that are too close to each other are one
	p.Interrupt()
	p.WantExit(1)
}
