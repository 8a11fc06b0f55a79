//go:build long

package main

import (
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// A load is a kafkawrite that writes a million lines as fast as it can, and a kafkaread that follows.
type load struct {
	addrs, topic, lines string
	writer, reader      *clitest.Process
	fault               chan struct{} // closed when the last lines may come: a fault meets a load on any machine
	fed                 chan struct{} // closed when the writer has taken all lines, or has ended
}

// start returns when some of the lines are through.
func start(t *testing.T, addrs, topic string) *load {
	t.Helper()
	l := &load{addrs: addrs, topic: topic, lines: clitest.Numbers(0, 1_000_000), fault: make(chan struct{}), fed: make(chan struct{})}
	l.reader = clitest.Start(t, addrs, topic, "kafkaread", "-offset", "oldest")
	l.writer = clitest.Start(t, addrs, topic, "kafkawrite")
	go func() {
		defer close(l.fed)
		defer l.writer.Stdin.Close()
		some := len(clitest.Numbers(0, 900_000))
		l.writer.Write(l.lines[:some])
		<-l.fault
		l.writer.Write(l.lines[some:])
	}()
	l.reader.WaitFor(&l.reader.Out, "\n9999\n")
	return l
}

// wantAll waits for the end, and checks that each line was stored and printed once, in order.
func (l *load) wantAll(t *testing.T) {
	t.Helper()
	<-l.fed
	l.writer.WantExit(0)
	l.reader.WaitFor(&l.reader.Out, "\n999999\n")
	l.reader.Interrupt()
	l.reader.WantExit(0)
	if l.reader.Out.String() != l.lines {
		t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(l.reader.Out.String(), "\n"))
	}
	clitest.WantStored(t, l.addrs, l.topic, l.lines)
}

// TestBrokerKilled kills a broker under load, as a power cut would, and starts it again.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{})
	l := start(t, broker.Addrs(), kafkatest.Topic(t, broker.Addrs()))
	broker.Kill(0)
	close(l.fault)
	l.writer.WaitFor(&l.writer.Err, "is not acknowledged yet: .*; waiting up to 2m0s")
	l.reader.WaitFor(&l.reader.Err, "partition 0: .*; still trying")
	broker.Start(0)
	l.wantAll(t)
}

// TestLeaderKilled kills the leader of three brokers under load; another one takes over.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	cluster := realkafka.Start(t, realkafka.Options{Brokers: 3})
	l := start(t, cluster.Addrs(), "load") // kafkawrite makes it on all three
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(strings.Split(l.addrs, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	leader, err := client.Leader(l.topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	cluster.Kill(int(leader.ID()))
	close(l.fault)
	l.wantAll(t)
}
