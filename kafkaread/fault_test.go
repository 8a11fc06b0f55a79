package main

import (
	"testing"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// TestReadGoesOn cuts a reader off. It says so, waits, and misses and repeats nothing.
func TestReadGoesOn(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := clitest.Start(t, proxy.Addr(), topic, "kafkaread")
	p.WaitFor(&p.Err, `printing what is written to ".*" from now on; Ctrl-C ends\n`)
	kafkatest.Produce(t, brokers, topic, "0", "1", "2")
	p.WaitFor(&p.Out, "2\n")
	proxy.Refuse(true)
	proxy.Cut()
	p.WaitFor(&p.Err, `^kafkaread: .*\nkafkaread: partition 0: .*; still trying\n`)
	kafkatest.Produce(t, brokers, topic, "3", "4")
	proxy.Refuse(false)
	p.WaitFor(&p.Out, "4\n")
	proxy.Cut()
	kafkatest.Produce(t, brokers, topic, "5")
	p.WaitFor(&p.Out, "5\n")
	p.Interrupt()
	p.WantExit(0)
	if p.Out.String() != clitest.Numbers(0, 6) {
		t.Errorf("it printed %q", p.Out.String())
	}
}

// TestReadAnotherTopic replaces the topic by a shorter one of the same name.
func TestReadAnotherTopic(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "old 1", "old 2", "old 3")
	p := clitest.Start(t, brokers, topic, "kafkaread", "-offset", "oldest")
	p.WaitFor(&p.Out, "old 3\n")
	kafkatest.Recreate(t, brokers, topic, "new")
	p.WaitFor(&p.Out, "new\n")
	p.WaitFor(&p.Err, `partition 0: it ends at offset 1: the topic is another one than was read, or Kafka has lost records; going on with its oldest record\n`)
	p.Interrupt()
	p.WantExit(0)
	if want := "old 1\nold 2\nold 3\nnew\n"; p.Out.String() != want {
		t.Errorf("it printed %q, want %q", p.Out.String(), want)
	}
}
