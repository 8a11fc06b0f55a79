package tool_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafkatest"
)

// numbers returns the lines from to to-1.
func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// stored is what kafkaread prints of the whole topic.
func stored(t *testing.T, brokers, topic string) string {
	t.Helper()
	p := start(t, brokers, topic, "kafkaread", "-offset", "oldest", "-exit")
	p.wantExit(0)
	return p.out.String()
}

// wantStored checks what is in the topic, without printing all of it.
func wantStored(t *testing.T, brokers, topic, want string) {
	t.Helper()
	if got := stored(t, brokers, topic); got != want {
		t.Errorf("the topic holds %d lines, other than the %d that were written", strings.Count(got, "\n"), strings.Count(want, "\n"))
	}
}

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
			p := start(t, proxy.Addr(), topic, "kafkawrite")
			const n = 300_000 // some ten batches
			p.write(numbers(0, n))
			p.stdin.Close()
			p.wantExit(0)
			if want := fmt.Sprintf("%d of %[1]d lines written\n", n); !strings.HasSuffix(p.err.String(), want) {
				t.Errorf("it says %q, want %q", p.err.String(), want)
			}
			wantStored(t, brokers, topic, numbers(0, n))
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
			p := start(t, proxy.Addr(), topic, "kafkawrite")
			const n = 30
			for i := range n {
				p.write(numbers(i, i+1))
				select {
				case <-written:
				case <-time.After(patience):
					t.Fatalf("line %d was not sent\n%s", i+1, p.err.String())
				}
			}
			p.stdin.Close()
			p.wantExit(0)
			wantStored(t, brokers, topic, numbers(0, n))
		})
	}
}

// TestInterruptFlushes presses Ctrl-C once: what was read is written.
func TestInterruptFlushes(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := start(t, proxy.Addr(), topic, "kafkawrite")
	p.waitFor(&p.out, "Enter lines")
	proxy.Pause(kafkatest.Answers)
	p.write(numbers(0, 3))
	p.waitFor(&p.err, `line 1 is not acknowledged yet; waiting for the brokers, up to 2m0s\n`)
	p.interrupt()
	proxy.Resume()
	p.wantExit(0)
	if !strings.HasSuffix(p.err.String(), "3 of 3 lines written\n") {
		t.Errorf("it says %q", p.err.String())
	}
	wantStored(t, brokers, topic, numbers(0, 3))
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
			p := start(t, proxy.Addr(), topic, "kafkawrite")
			p.write(numbers(0, 100_000)) // more than the pipe holds, so some are written
			for !strings.Contains(stored(t, brokers, topic), "1\n") {
				time.Sleep(10 * time.Millisecond)
			}
			fault(proxy)
			p.write(numbers(100_000, 100_010))
			p.waitFor(&p.err, "is not acknowledged yet")
			for range 2 {
				p.interrupt()
				time.Sleep(time.Second) // signals that are too close to each other are one
			}
			p.wantExit(1)
			checkReport(t, p.err.String(), stored(t, brokers, topic), numbers(0, 100_010))
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

// TestReadGoesOn cuts a reader off. It says so, waits, and misses and repeats nothing.
func TestReadGoesOn(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := start(t, proxy.Addr(), topic, "kafkaread")
	p.waitFor(&p.err, `printing what is written to ".*" from now on; Ctrl-C ends\n`)
	kafkatest.Produce(t, brokers, topic, "0", "1", "2")
	p.waitFor(&p.out, "2\n")
	proxy.Refuse(true)
	proxy.Cut()
	p.waitFor(&p.err, `partition 0: .*; waiting for its broker, to go on at offset 3\n`)
	kafkatest.Produce(t, brokers, topic, "3", "4")
	proxy.Refuse(false)
	p.waitFor(&p.out, "4\n")
	proxy.Cut()
	kafkatest.Produce(t, brokers, topic, "5")
	p.waitFor(&p.out, "5\n")
	p.interrupt()
	p.wantExit(0)
	if p.out.String() != numbers(0, 6) {
		t.Errorf("it printed %q", p.out.String())
	}
}

// TestReadAnotherTopic replaces the topic by a shorter one of the same name.
func TestReadAnotherTopic(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "old 1", "old 2", "old 3")
	p := start(t, brokers, topic, "kafkaread", "-offset", "oldest")
	p.waitFor(&p.out, "old 3\n")
	kafkatest.Recreate(t, brokers, topic, "new")
	p.waitFor(&p.out, "new\n")
	p.waitFor(&p.err, `partition 0: it ends at offset 1, though 2 was read: .*; going on at offset 0\n`)
	p.interrupt()
	p.wantExit(0)
	if want := "old 1\nold 2\nold 3\nnew\n"; p.out.String() != want {
		t.Errorf("it printed %q, want %q", p.out.String(), want)
	}
}
