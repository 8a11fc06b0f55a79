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
	p.WaitFor(&p.Err, `\nkafkaread: partition 0: .*; still trying\n`)
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
