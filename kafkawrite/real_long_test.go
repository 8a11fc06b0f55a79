//go:build long

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/realkafka"
)

// A broker is killed under load, as by a power cut: the only one, which is started again, or the
// leader of three, after which another one takes over. Each line is stored and printed once, in order.
func TestLeaderKilled(t *testing.T) {
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprintf("of %d", brokers), func(t *testing.T) {
			t.Parallel()
			cluster := realkafka.Start(t, realkafka.Options{Brokers: brokers})
			const topic = "load" // kafkawrite makes it on all brokers
			lines, some := clitest.Numbers(0, 1_000_000), len(clitest.Numbers(0, 900_000))
			reader := clitest.Start(t, cluster.Addrs(), topic, "kafkaread", "-offset", "oldest")
			writer := clitest.Start(t, cluster.Addrs(), topic, "kafkawrite")
			fault, fed := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(fed)
				defer writer.Stdin.Close()
				writer.Write(lines[:some])
				<-fault // so that the fault meets a load on any machine
				writer.Write(lines[some:])
			}()
			reader.WaitFor(&reader.Out, "\n9999\n")
			client, err := sarama.NewClient(strings.Split(cluster.Addrs(), ","), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			leader, err := client.Leader(topic, 0)
			if err != nil {
				t.Fatal(err)
			}
			cluster.Kill(int(leader.ID()))
			close(fault)
			if brokers == 1 {
				writer.WaitFor(&writer.Err, "is not acknowledged yet: .*; waiting up to 2m0s")
				reader.WaitFor(&reader.Err, "partition 0: .*; still trying")
				cluster.Start(0)
			}
			<-fed
			writer.WantExit(0)
			reader.WaitFor(&reader.Out, "\n999999\n")
			reader.Interrupt()
			reader.WantExit(0)
			if reader.Out.String() != lines {
				t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(reader.Out.String(), "\n"))
			}
			clitest.WantStored(t, cluster.Addrs(), topic, lines)
		})
	}
}
