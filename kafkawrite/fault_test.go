package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// TestInterruptFlushes presses Ctrl-C once: what was read is written. After a second time the report
// counts all that was read.
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
	twice.WaitFor(&twice.Err, `0 of 3 lines written; line 1: not acknowledged within \d+s: `)
	p.WaitFor(&p.Err, `line 1 is not acknowledged yet: .*; waiting up to 2m0s\n`)
	p.Interrupt()
	p.WaitFor(&p.Err, `line 1 is not acknowledged yet; waiting up to 2m0s, Ctrl-C again ends at once\n`)
	proxy.Resume()
	p.WantExit(0)
	p.WaitFor(&p.Err, `(?s)kafkawrite: line 1 is acknowledged now\n.*kafkawrite: 3 of 3 lines written\n$`)
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, 3))
}

// TestSecondInterruptStops presses Ctrl-C twice while a broker does not answer: it ends at once, and
// says what may be missing.
func TestSecondInterruptStops(t *testing.T) {
	for name, fault := range map[string]func(*kafkatest.Proxy){
		"hangs": func(proxy *kafkatest.Proxy) { proxy.Pause(kafkatest.Requests) },
		"is gone": func(proxy *kafkatest.Proxy) {
			proxy.Refuse(true)
			proxy.Cut()
		},
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
			p.Write(clitest.Numbers(0, 100_000)) // more than the pipe holds, so some are written
			for !strings.Contains(clitest.Stored(t, brokers, topic), "1\n") {
				time.Sleep(10 * time.Millisecond)
			}
			fault(proxy)
			go p.Write(clitest.Numbers(100_000, 100_010)) // waits if the pipe is still full
			p.WaitFor(&p.Err, "is not acknowledged yet")
			giveUp(p)
			checkReport(t, p, clitest.Stored(t, brokers, topic), clitest.Numbers(0, 100_010))
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

// checkReport compares what a kafkawrite that failed says with what is stored: a beginning of what it
// read, with at least the lines that it says were written.
func checkReport(t *testing.T, p *clitest.Process, stored, lines string) {
	t.Helper()
	match := regexp.MustCompile(`(?m)^kafkawrite: (\d+) of (\d+) lines written; line (\d+): (.*)$`).FindStringSubmatch(p.Err.String())
	if match == nil {
		t.Fatalf("no report in %q", p.Err.String())
	}
	written, _ := strconv.Atoi(match[1])
	read, _ := strconv.Atoi(match[2])
	if line, _ := strconv.Atoi(match[3]); line != written+1 {
		t.Errorf("%d lines were written, and line %d was not", written, line)
	}
	if n := strings.Count(stored, "\n"); n < written || n > read || !strings.HasPrefix(lines, stored) {
		t.Errorf("%d lines are stored, a beginning of what was written: %v; it says %d of %d", n, strings.HasPrefix(lines, stored), written, read)
	}
}
