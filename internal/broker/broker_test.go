package broker_test

import (
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/broker"
)

func TestProduceConsume(t *testing.T) {
	b, err := broker.Start(broker.Config{Addr: "127.0.0.1:0", Topic: "chat"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	cfg.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer([]string{b.Addr()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := sarama.NewConsumer([]string{b.Addr()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pc, err := c.ConsumePartition("chat", 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "chat", Value: sarama.StringEncoder("hello")}); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-pc.Messages():
		if string(m.Value) != "hello" {
			t.Fatal(m)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing")
	}
}
