package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// produceFault lets fault decide about produce requests, of which it is told the number, from 1.
func produceFault(fault func(n int) kafkatest.Action) func(kafkatest.Request) kafkatest.Action {
	n := 0
	return func(r kafkatest.Request) kafkatest.Action {
		if r.Key != kmsg.Produce {
			return kafkatest.Action{}
		}
		n++
		return fault(n)
	}
}

// TestWriteWithFaults loses requests, answers and leaders. Lines in one go are batches; lines one by one are records that
// sarama sends. Each must be in the topic once, in order.
func TestWriteWithFaults(t *testing.T) {
	faults := map[string]func(n int) kafkatest.Action{
		"request lost": func(n int) kafkatest.Action { return kafkatest.Action{CutBefore: n%4 == 2} },
		"answer lost":  func(n int) kafkatest.Action { return kafkatest.Action{CutAfter: n%4 == 2} },
		"not leader":   func(n int) kafkatest.Action { return kafkatest.Action{NotLeader: n%4 == 2} },
		"all of them": func(n int) kafkatest.Action {
			return kafkatest.Action{CutBefore: n%7 == 2, CutAfter: n%7 == 3, NotLeader: n%7 == 5}
		},
	}
	for name, fault := range faults {
		t.Run("batches, "+name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			proxy.SetFault(produceFault(fault))
			p := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
			const n = 300_000 // some ten batches
			p.Write(clitest.Numbers(0, n))
			p.Stdin.Close()
			p.WantExit(0)
			if want := fmt.Sprintf("%d of %[1]d lines written\n", n); !strings.HasSuffix(p.Err.String(), want) {
				t.Errorf("it says %q, want %q", p.Err.String(), want)
			}
			clitest.WantStored(t, brokers, topic, clitest.Numbers(0, n))
		})
		t.Run("one by one, "+name, func(t *testing.T) {
			t.Parallel()
			brokers := kafkatest.Broker(t)
			topic := kafkatest.Topic(t, brokers)
			proxy := kafkatest.NewProxy(t, brokers)
			written := make(chan struct{}, 1000) // a token for every produce request that is done
			decide := produceFault(fault)
			proxy.SetFault(func(r kafkatest.Request) kafkatest.Action {
				action := decide(r)
				if r.Key == kmsg.Produce && action == (kafkatest.Action{}) {
					written <- struct{}{}
				}
				return action
			})
			p := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
			const n = 30
			for i := range n {
				p.Write(clitest.Numbers(i, i+1))
				select {
				case <-written:
				case <-time.After(clitest.Patience):
					t.Fatalf("line %d was not sent\n%s", i+1, p.Err.String())
				}
			}
			p.Stdin.Close()
			p.WantExit(0)
			clitest.WantStored(t, brokers, topic, clitest.Numbers(0, n))
		})
	}
}

// TestInterruptFlushes presses Ctrl-C once: what was read is written.
func TestInterruptFlushes(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := clitest.Start(t, proxy.Addr(), topic, "kafkawrite")
	p.WaitFor(&p.Out, "Enter lines")
	proxy.Pause(kafkatest.Answers)
	p.Write(clitest.Numbers(0, 3))
	p.WaitFor(&p.Err, `line 1 is not acknowledged yet: .*; waiting up to 2m0s\n`)
	p.Interrupt()
	proxy.Resume()
	p.WantExit(0)
	if !strings.HasSuffix(p.Err.String(), "kafkawrite: line 1 is acknowledged now\nkafkawrite: 3 of 3 lines written\n") {
		t.Errorf("it says %q", p.Err.String())
	}
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, 3))
}

// TestSecondInterruptStops presses Ctrl-C twice while a broker does not answer: it ends at once, and says what may be missing.
func TestSecondInterruptStops(t *testing.T) {
	for name, fault := range map[string]func(*kafkatest.Proxy){
		"hangs": func(proxy *kafkatest.Proxy) { proxy.Pause(kafkatest.Requests) },
		"is gone": func(proxy *kafkatest.Proxy) {
			proxy.Refuse(true)
			proxy.Cut()
		},
		"stores without an answer": func(proxy *kafkatest.Proxy) {
			proxy.SetFault(produceFault(func(int) kafkatest.Action { return kafkatest.Action{CutAfter: true} }))
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
			p.Write(clitest.Numbers(100_000, 100_010))
			p.WaitFor(&p.Err, "is not acknowledged yet")
			for range 2 {
				p.Interrupt()
				time.Sleep(time.Second) // signals that are too close to each other are one
			}
			p.WantExit(1)
			checkReport(t, p.Err.String(), clitest.Stored(t, brokers, topic), clitest.Numbers(0, 100_010))
		})
	}
}

// checkReport compares what a kafkawrite that failed says with what is stored: a beginning of what it read, with at least
// the lines that it says were written.
func checkReport(t *testing.T, report, stored, lines string) {
	t.Helper()
	match := regexp.MustCompile(`(?m)^kafkawrite: (\d+) of (\d+) lines written; line (\d+): (.*)$`).FindStringSubmatch(report)
	if match == nil {
		t.Fatalf("no report in %q", report)
	}
	written, _ := strconv.Atoi(match[1])
	read, _ := strconv.Atoi(match[2])
	if line, _ := strconv.Atoi(match[3]); line != written+1 {
		t.Errorf("%d lines were written, and line %d was not", written, line)
	}
	if !strings.HasPrefix(lines, stored) {
		t.Errorf("what is stored is no beginning of what was written")
	}
	if n := strings.Count(stored, "\n"); n < written || n > read {
		t.Errorf("%d lines are stored; it says %d of %d", n, written, read)
	}
}

// Nobody reads what kafkawrite says any more, and it has something to say: all lines are written.
func TestStderrGone(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := clitest.New(t, proxy.Addr(), topic, "kafkawrite")
	gone, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	p.Cmd.Stdout, p.Cmd.Stderr = stderr, stderr
	p.Start()
	stderr.Close()
	p.Write(clitest.Numbers(0, 3))
	for clitest.Stored(t, brokers, topic) != clitest.Numbers(0, 3) {
		time.Sleep(10 * time.Millisecond)
	}
	proxy.Pause(kafkatest.Answers)
	p.Write(clitest.Numbers(3, 40))
	time.Sleep(3 * time.Second) // after two it says what it waits for
	proxy.Resume()
	p.Stdin.Close()
	p.WantExit(0)
	clitest.WantStored(t, brokers, topic, clitest.Numbers(0, 40))
}
