//go:build long

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// ready waits until the brokers serve clients.
func ready(t *testing.T, c *realkafka.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clitest.Patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// feed writes lines to the program as fast as it takes them, and then ends its input.
func feed(p *clitest.Process, lines string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer p.Stdin.Close()
		p.Stdin.Write([]byte(lines))
	}()
	return done
}

// TestBrokerKilled kills a broker under load, as a power cut would, and starts it again.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{})
	topic := kafkatest.Topic(t, broker.Addrs())
	reader := clitest.Start(t, broker.Addrs(), topic, "kafkaread")
	reader.WaitFor(&reader.Err, "from now on")

	lines := clitest.Numbers(0, 1_000_000)
	p := clitest.Start(t, broker.Addrs(), topic, "kafkawrite")
	fed := feed(p, lines)
	reader.WaitFor(&reader.Out, "\n9999\n")
	broker.Kill(0)
	p.WaitFor(&p.Err, "is not acknowledged yet: .*; waiting up to 2m0s")
	reader.WaitFor(&reader.Err, "partition 0: .*; still trying")
	broker.Start(0)
	<-fed
	p.WantExit(0)
	reader.WaitFor(&reader.Out, "\n999999\n")
	reader.Interrupt()
	reader.WantExit(0)
	if reader.Out.String() != lines {
		t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(reader.Out.String(), "\n"))
	}
	clitest.WantStored(t, broker.Addrs(), topic, lines)
}

// TestBrokerStaysAway kills a broker under load, and the person gives up. The report must be true.
func TestBrokerStaysAway(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{})
	topic := kafkatest.Topic(t, broker.Addrs())
	reader := clitest.Start(t, broker.Addrs(), topic, "kafkaread")
	reader.WaitFor(&reader.Err, "from now on")

	lines := clitest.Numbers(0, 1_000_000)
	p := clitest.Start(t, broker.Addrs(), topic, "kafkawrite")
	fed := feed(p, lines)
	reader.WaitFor(&reader.Out, "\n9999\n")
	broker.Kill(0)
	p.WaitFor(&p.Err, "is not acknowledged yet")
	for range 2 {
		p.Interrupt()
		time.Sleep(time.Second)
	}
	p.WantExit(1)
	<-fed
	broker.Start(0)
	ready(t, broker)
	checkReport(t, p.Err.String(), clitest.Stored(t, broker.Addrs(), topic), lines)
}

// TestLeaderKilled kills the leader of three brokers under load; another one takes over.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	cluster := realkafka.Start(t, realkafka.Options{Brokers: 3})
	const topic = "load"
	lines := clitest.Numbers(0, 1_000_000)
	p := clitest.Start(t, cluster.Addrs(), topic, "kafkawrite") // which makes it on all three
	fed := feed(p, lines)
	reader := clitest.Start(t, cluster.Addrs(), topic, "kafkaread", "-offset", "oldest")
	reader.WaitFor(&reader.Out, "\n9999\n")

	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(strings.Split(cluster.Addrs(), ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	leader, err := client.Leader(topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	cluster.Kill(int(leader.ID()))
	<-fed
	p.WantExit(0)
	reader.WaitFor(&reader.Out, "\n999999\n")
	if reader.Out.String() != lines {
		t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(reader.Out.String(), "\n"))
	}
	clitest.WantStored(t, cluster.Addrs(), topic, lines)
}
