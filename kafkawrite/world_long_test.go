//go:build long

package main

import (
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
)

// Kafka refuses lines, for a while or for good: with one line and with many.
func TestWorld(t *testing.T) {
	k := clitest.StartKafka(t)
	one, many := "1\n", clitest.Numbers(0, 1000)
	write := func(p *clitest.Process, text string) *clitest.Process {
		p.Write(text)
		p.Stdin.Close()
		return p
	}

	t.Run("too few copies", func(t *testing.T) {
		settings := map[string]string{"min.insync.replicas": "2"}
		topics := []string{k.Topic(settings, []int32{0, 2}), k.Topic(settings, []int32{0, 2})}
		k.Kill(2)
		var writers []*clitest.Process
		for i, text := range []string{one, many} {
			writers = append(writers, write(clitest.Start(t, k.Addr(0), topics[i], "kafkawrite"), text))
		}
		for _, p := range writers {
			p.WaitFor(&p.Err, `line 1 is not acknowledged yet: .*fewer in-sync replicas than required; waiting up to 2m0s\n`)
		}
		time.Sleep(10 * time.Second) // so long the first edition did not wait
		k.Start(2)
		for i, p := range writers {
			p.WantExit(0)
			p.WaitFor(&p.Err, `(?s)kafkawrite: line 1 is acknowledged now\n.*kafkawrite: (\d+) of (\d+) lines written\n$`)
			clitest.WantStored(t, k.Addr(0), topics[i], []string{one, many}[i])
		}
	})

	t.Run("not allowed", func(t *testing.T) {
		topic := k.Topic(nil, []int32{0})
		k.Grant(topic, sarama.AclOperationDescribe)
		for _, text := range []string{one, many} {
			p := write(k.AsAnn(topic, "kafkawrite"), text)
			p.WantExit(4)
			p.WaitFor(&p.Err, `kafkawrite: 0 of \d+ lines written; line 1: user "ann" lacks the right to WRITE topic ".*\(Kafka: .*\)\n$`)
		}
		write(k.AsAnn("secret", "kafkawrite"), one).WantExit(4)
	})

	t.Run("a rule of the topic", func(t *testing.T) {
		compacted := k.Topic(map[string]string{"cleanup.policy": "compact"}, []int32{0})
		p := write(clitest.Start(t, k.Addrs(), compacted, "kafkawrite"), many)
		p.WantExit(1)
		p.WaitFor(&p.Err, `kafkawrite: 0 of \d+ lines written; line 1: WRITE of topic ".*" is refused: .*compacted topic wants keys.*\n$`)
	})
}
