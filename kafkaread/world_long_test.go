//go:build long

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
)

// write has kafkawrite write text, and checks that it does.
func write(t *testing.T, brokers, topic, text string, args ...string) {
	t.Helper()
	p := clitest.Start(t, brokers, topic, "kafkawrite", args...)
	p.Write(text)
	p.Stdin.Close()
	p.WantExit(0)
}

// A topic as the world has them: forbidden, with a partition away, growing, with a bomb in it.
func TestWorld(t *testing.T) {
	k := clitest.StartKafka(t)
	nobody := []int32{0}

	t.Run("not allowed", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		write(t, k.Addrs(), topic, "1\n2\n")
		k.Grant(topic, sarama.AclOperationDescribe)
		for _, args := range [][]string{{"-offset", "oldest", "-exit"}, {"-offset", "oldest"}, {"-offset", "-1"}, {}} {
			began := time.Now()
			p := k.AsAnn(topic, "kafkaread", args...)
			p.WantExit(4)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%v: it took %v", args, took)
			}
			p.Want(&p.Out, "")
			if got := p.Err.String(); !strings.Contains(got, `user "ann" must not read topic "`+topic+`"`) || !strings.Contains(got, "READ") {
				t.Errorf("%v: it says %q", args, got)
			}
		}
		p := k.AsAnn("secret", "kafkaread", "-exit")
		p.WantExit(4)
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
		p.Want(&p.Out, "in 0\n")
		write(t, addrs, topic, "more\n")
		follow.WaitFor(&follow.Out, "^in 0\nmore\n$")
		k.Start(2)
		follow.WaitFor(&follow.Out, "^in 0\nmore\nin 1\n$")
		newest.WaitFor(&newest.Out, "^in 0\nmore\nin 1\n$")
		follow.WaitFor(&follow.Err, "kafkaread: partition 1 goes on\n")
		if n := strings.Count(follow.Err.String(), "\n"); n > 8 {
			t.Errorf("it says %d lines:\n%s", n, follow.Err.String())
		}
		if err := k.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a partition is added", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		p := clitest.Start(t, k.Addrs(), topic, "kafkaread")
		p.WaitFor(&p.Err, "from now on")
		k.Grow(topic, 2, 1)
		write(t, k.Addrs(), topic, "new\n", "-partition", "1")
		p.WaitFor(&p.Out, "^new\n$")
	})

	t.Run("a record cannot be read", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		config.Producer.Compression = sarama.CompressionZSTD
		config.Producer.MaxMessageBytes = 1 << 30
		config.Producer.Return.Successes = true
		producer, err := sarama.NewSyncProducer(strings.Split(k.Addrs(), ","), config)
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		for _, value := range []string{"before", strings.Repeat("a", 32<<20), "after"} {
			if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
				t.Fatal(err)
			}
		}
		p := clitest.Start(t, k.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit")
		p.WantExit(1)
		p.Want(&p.Out, "before\nafter\n")
		p.Want(&p.Err, "kafkaread: partition 0: offset 1 was left out: more than 16 MiB when decompressed\n"+
			"kafkaread: not all records could be read: see above\n")
	})

	t.Run("another topic", func(t *testing.T) {
		topic := k.Topic(nil, nobody)
		write(t, k.Addrs(), topic, "1\n2\n3\n")
		p := clitest.Start(t, k.Addrs(), topic, "kafkaread", "-offset", "oldest")
		p.WaitFor(&p.Out, "^1\n2\n3\n$")
		k.Delete(topic)
		p.WaitFor(&p.Err, "still trying\n")
		k.Make(topic, nil, nobody)
		write(t, k.Addrs(), topic, "a\nb\nc\nd\n")
		p.WaitFor(&p.Out, "^1\n2\n3\na\nb\nc\nd\n$")
	})
}
