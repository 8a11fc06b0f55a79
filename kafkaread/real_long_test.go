//go:build long

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// TestExitWithHoles ends a topic with what no consumer ever sees: the markers of transactions, and records that were
// compacted away. kafkaread -exit must not wait for these.
func TestExitWithHoles(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{Properties: map[string]string{
		"log.cleaner.backoff.ms":                   "100",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
	}})

	t.Run("transactions", func(t *testing.T) {
		t.Parallel()
		topic := kafkatest.Topic(t, broker.Addrs())
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		config.Net.MaxOpenRequests = 1
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Producer.Return.Successes = true
		config.Producer.Transaction.ID = topic
		producer, err := sarama.NewSyncProducer([]string{broker.Addrs()}, config)
		for deadline := time.Now().Add(clitest.Patience); err != nil && time.Now().Before(deadline); { // a new broker hands out no ids yet
			time.Sleep(100 * time.Millisecond)
			producer, err = sarama.NewSyncProducer([]string{broker.Addrs()}, config)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		for i, end := range []func() error{producer.CommitTxn, producer.AbortTxn, producer.CommitTxn} {
			if err := producer.BeginTxn(); err != nil {
				t.Fatal(err)
			}
			for j := range 2 {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i, j))}); err != nil {
					t.Fatal(err)
				}
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
		p := clitest.Start(t, broker.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit", "-format", `%o=%s\n`)
		p.WantExit(0)
		// The reader shows what was written, also by a transaction that was aborted; 2, 5 and 8 are markers.
		if want := "0=0 0\n1=0 1\n3=1 0\n4=1 1\n6=2 0\n7=2 1\n"; p.Out.String() != want {
			t.Errorf("it printed %q, want %q", p.Out.String(), want)
		}
		p = clitest.Start(t, broker.Addrs(), topic, "kafkaread", "-offset", "8", "-exit")
		p.WantExit(0)
		if p.Out.String() != "" {
			t.Errorf("it printed %q for a marker", p.Out.String())
		}
		for args, want := range map[string]string{"-offset -1 -exit": "2 1\n", "-offset -3 -n 3": "1 1\n2 0\n2 1\n", "-offset -6 -exit": "0 0\n0 1\n1 0\n1 1\n2 0\n2 1\n"} {
			p = clitest.Start(t, broker.Addrs(), topic, "kafkaread", strings.Fields(args)...)
			p.WantExit(0)
			p.Want(&p.Out, want)
		}
		p = clitest.Start(t, broker.Addrs(), topic, "kafkaread", "-offset", "5", "-n", "1")
		p.WantExit(0)
		if p.Out.String() != "2 0\n" {
			t.Errorf("after a marker it printed %q", p.Out.String())
		}
	})

	t.Run("compaction", func(t *testing.T) {
		t.Parallel()
		const topic = "compacted"
		config := sarama.NewConfig()
		config.Version = sarama.V2_8_0_0
		admin, err := sarama.NewClusterAdmin([]string{broker.Addrs()}, config)
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		entries := make(map[string]*string)
		for name, value := range map[string]string{
			"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
			"max.compaction.lag.ms": "100", "delete.retention.ms": "100",
		} {
			entries[name] = &value
		}
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: entries}, false); err != nil {
			t.Fatal(err)
		}
		// Two keys over and over, in batches and one by one: of each only the last record stays.
		for range 3 {
			p := clitest.Start(t, broker.Addrs(), topic, "kafkawrite", "-key-sep", ":")
			p.Write(strings.Repeat("a:old\nb:old\n", 500) + "a:new\nb:new\n")
			p.Stdin.Close()
			p.WantExit(0)
		}
		for deadline := time.Now().Add(clitest.Patience); ; time.Sleep(200 * time.Millisecond) {
			// A new record rolls the segment, so that the one before it can be compacted.
			p := clitest.Start(t, broker.Addrs(), topic, "kafkawrite", "-key", "c")
			p.Write("tick\n")
			p.Stdin.Close()
			p.WantExit(0)
			p = clitest.Start(t, broker.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit")
			p.WantExit(0)
			if got := p.Out.String(); strings.HasPrefix(got, "new\nnew\n") {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("it is not compacted: %.100q ...", got)
			}
		}
		// From inside the hole, and to an end before it.
		p := clitest.Start(t, broker.Addrs(), topic, "kafkaread", "-offset", "10", "-n", "2", "-format", "%k")
		p.WantExit(0)
		if p.Out.String() != "ab" {
			t.Errorf("from inside a hole it printed %q", p.Out.String())
		}
	})
}
