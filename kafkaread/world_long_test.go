//go:build long

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
)

func write(t *testing.T, brokers, topic, text string, args ...string) {
	t.Helper()
	p := clitest.Start(t, brokers, topic, "kafkawrite", args...)
	p.Write(text)
	p.Stdin.Close()
	p.WantExit(0)
}

func wantRead(t *testing.T, brokers, topic, want string, args ...string) {
	t.Helper()
	p := clitest.Start(t, brokers, topic, "kafkaread", args...)
	p.WantExit(0)
	if got := p.Out.String(); got != want {
		t.Errorf("%s: %q, want %q", p.Cmd, got, want)
	}
}

// A topic as the world has them: forbidden, with a partition away, growing, with markers and holes.
func TestWorld(t *testing.T) {
	k := clitest.StartKafka(t)
	nobody := []int32{0}

	t.Run("not allowed", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		write(t, k.Addrs(), topic, "1\n2\n")
		k.Grant(topic, sarama.AclOperationDescribe)
		for _, args := range []string{"-offset oldest -exit", "-offset oldest", "-offset -1", ""} {
			p := k.AsAnn(topic, "kafkaread", strings.Fields(args)...)
			p.WantExit(4)
			p.WaitFor(&p.Out, "^$")
			p.WaitFor(&p.Err, `user "ann" lacks the right to READ topic "`+topic+`"`)
		}
		k.AsAnn("secret", "kafkaread", "-exit").WantExit(4)
	})

	t.Run("a partition is away", func(t *testing.T) {
		topic := k.Topic(nil, nobody, []int32{2})
		write(t, k.Addrs(), topic, "in 0\n")
		write(t, k.Addrs(), topic, "in 1\n", "-partition", "1")
		addrs := strings.Join([]string{k.Addr(0), k.Addr(1)}, ",")
		k.Kill(2)
		follow := clitest.Start(t, addrs, topic, "kafkaread", "-offset", "oldest")
		newest := clitest.Start(t, addrs, topic, "kafkaread", "-offset", "-1")
		follow.WaitFor(&follow.Out, "^in 0\n$")
		newest.WaitFor(&newest.Out, "^in 0\n$")
		follow.WaitFor(&follow.Err, "kafkaread: partition 1: .*; still trying\n")
		p := clitest.Start(t, addrs, topic, "kafkaread", "-offset", "oldest", "-exit")
		p.WantExit(1)
		p.WaitFor(&p.Out, "^in 0\n$")
		write(t, addrs, topic, "more\n")
		follow.WaitFor(&follow.Out, "^in 0\nmore\n$")
		k.Start(2)
		follow.WaitFor(&follow.Out, "^in 0\nmore\nin 1\n$")
		newest.WaitFor(&newest.Out, "^in 0\nmore\nin 1\n$")
		follow.WaitFor(&follow.Err, "kafkaread: partition 1 goes on\n")
		if n := strings.Count(follow.Err.String(), "\n"); n > 30 { // each reason once a minute; an attempt a line would be many more
			t.Errorf("it says %d lines:\n%s", n, follow.Err.String())
		}
	})

	t.Run("a partition is added", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		p := clitest.Start(t, k.Addrs(), topic, "kafkaread")
		p.WaitFor(&p.Err, "from now on")
		k.Grow(topic)
		write(t, k.Addrs(), topic, "new\n", "-partition", "1")
		p.WaitFor(&p.Out, "^new\n$")
	})

	// What no consumer ever sees: kafkaread -exit does not wait for it, and -N does not count it.
	t.Run("markers of transactions", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		config := sarama.NewConfig()
		config.Version, config.Net.MaxOpenRequests = sarama.V2_8_0_0, 1
		config.Producer.RequiredAcks, config.Producer.Return.Successes = sarama.WaitForAll, true
		config.Producer.Idempotent, config.Producer.Transaction.ID = true, topic
		transactions, err := sarama.NewSyncProducer(strings.Split(k.Addrs(), ","), config)
		for deadline := time.Now().Add(clitest.Patience); err != nil; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) { // a new broker hands out no ids yet
				t.Fatal(err)
			}
			transactions, err = sarama.NewSyncProducer(strings.Split(k.Addrs(), ","), config)
		}
		defer transactions.Close()
		for i, end := range []func() error{transactions.CommitTxn, transactions.AbortTxn, transactions.CommitTxn} {
			err := transactions.BeginTxn()
			for j := range 2 {
				_, _, failed := transactions.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i, j))})
				err = errors.Join(err, failed)
			}
			if err := errors.Join(err, end()); err != nil {
				t.Fatal(err)
			}
		}
		// It shows what was written, also by a transaction that was aborted; 2, 5 and 8 are markers.
		for args, want := range map[string]string{
			`-offset oldest -exit -format %o=%s\n`: "0=0 0\n1=0 1\n3=1 0\n4=1 1\n6=2 0\n7=2 1\n",
			"-offset 8 -exit":                      "",
			"-offset 5 -n 1":                       "2 0\n",
			"-offset -1 -exit":                     "2 1\n",
			"-offset -3 -n 3":                      "1 1\n2 0\n2 1\n",
			"-offset -6 -exit":                     "0 0\n0 1\n1 0\n1 1\n2 0\n2 1\n",
		} {
			wantRead(t, k.Addrs(), topic, want, strings.Fields(args)...)
		}
	})

	t.Run("compaction", func(t *testing.T) {
		topic := k.Topic(map[string]string{"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
			"max.compaction.lag.ms": "100", "delete.retention.ms": "100"}, nobody)
		// Two keys over and over, in batches: of each only the last record stays.
		for range 3 {
			write(t, k.Addrs(), topic, strings.Repeat("a:old\nb:old\n", 500)+"a:new\nb:new\n", "-key-sep", ":")
		}
		compacted := func() string { // a new record rolls the segment, so that the one before it can be compacted
			write(t, k.Addrs(), topic, "tick\n", "-key", "c")
			p := clitest.Start(t, k.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit")
			p.WantExit(0)
			return p.Out.String()
		}
		if !clitest.Eventually(compacted, "^new\nnew\n") {
			t.Fatal("it is not compacted")
		}
		wantRead(t, k.Addrs(), topic, "ab", "-offset", "10", "-n", "2", "-format", "%k") // from inside the hole
	})
}
