package tool_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
	"kafkachat/internal/realkafka"
)

// ready waits until the brokers serve clients.
func ready(t *testing.T, c *realkafka.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// feed writes lines to the program as fast as it takes them, and then ends its input.
func feed(p *process, lines string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer p.stdin.Close()
		p.stdin.Write([]byte(lines))
	}()
	return done
}

// TestBrokerKilled kills a broker under load, as a power cut would, and starts it again.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{})
	topic := kafkatest.Topic(t, broker.Addrs())
	reader := start(t, broker.Addrs(), topic, "kafkaread")
	reader.waitFor(&reader.err, "from now on")

	lines := numbers(0, 1_000_000)
	p := start(t, broker.Addrs(), topic, "kafkawrite")
	fed := feed(p, lines)
	reader.waitFor(&reader.out, "\n9999\n")
	broker.Kill(0)
	p.waitFor(&p.err, "is not acknowledged yet; waiting for the brokers")
	reader.waitFor(&reader.err, "waiting for its broker, to go on at offset")
	broker.Start(0)
	<-fed
	p.wantExit(0)
	reader.waitFor(&reader.out, "\n999999\n")
	reader.interrupt()
	reader.wantExit(0)
	if reader.out.String() != lines {
		t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(reader.out.String(), "\n"))
	}
	wantStored(t, broker.Addrs(), topic, lines)
}

// TestBrokerStaysAway kills a broker under load, and the person gives up. The report must be true.
func TestBrokerStaysAway(t *testing.T) {
	t.Parallel()
	broker := realkafka.Start(t, realkafka.Options{})
	topic := kafkatest.Topic(t, broker.Addrs())
	reader := start(t, broker.Addrs(), topic, "kafkaread")
	reader.waitFor(&reader.err, "from now on")

	lines := numbers(0, 1_000_000)
	p := start(t, broker.Addrs(), topic, "kafkawrite")
	fed := feed(p, lines)
	reader.waitFor(&reader.out, "\n9999\n")
	broker.Kill(0)
	p.waitFor(&p.err, "is not acknowledged yet")
	for range 2 {
		p.interrupt()
		time.Sleep(time.Second)
	}
	p.wantExit(1)
	<-fed
	broker.Start(0)
	ready(t, broker)
	checkReport(t, p.err.String(), stored(t, broker.Addrs(), topic), lines)
}

// TestLeaderKilled kills the leader of three brokers under load; another one takes over.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	cluster := realkafka.Start(t, realkafka.Options{Brokers: 3})
	const topic = "load"
	lines := numbers(0, 1_000_000)
	p := start(t, cluster.Addrs(), topic, "kafkawrite") // which makes it on all three
	fed := feed(p, lines)
	reader := start(t, cluster.Addrs(), topic, "kafkaread", "-offset", "oldest")
	reader.waitFor(&reader.out, "\n9999\n")

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
	p.wantExit(0)
	reader.waitFor(&reader.out, "\n999999\n")
	if reader.out.String() != lines {
		t.Errorf("kafkaread printed %d lines, other than those that were written", strings.Count(reader.out.String(), "\n"))
	}
	wantStored(t, cluster.Addrs(), topic, lines)
}

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
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); { // a new broker hands out no ids yet
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
		p := start(t, broker.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit", "-format", `%o=%s\n`)
		p.wantExit(0)
		// The reader shows what was written, also by a transaction that was aborted; 2, 5 and 8 are markers.
		if want := "0=0 0\n1=0 1\n3=1 0\n4=1 1\n6=2 0\n7=2 1\n"; p.out.String() != want {
			t.Errorf("it printed %q, want %q", p.out.String(), want)
		}
		p = start(t, broker.Addrs(), topic, "kafkaread", "-offset", "8", "-exit")
		p.wantExit(0)
		if p.out.String() != "" {
			t.Errorf("it printed %q for a marker", p.out.String())
		}
		p = start(t, broker.Addrs(), topic, "kafkaread", "-offset", "5", "-n", "1")
		p.wantExit(0)
		if p.out.String() != "2 0\n" {
			t.Errorf("after a marker it printed %q", p.out.String())
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
			p := start(t, broker.Addrs(), topic, "kafkawrite", "-key-sep", ":")
			p.write(strings.Repeat("a:old\nb:old\n", 500) + "a:new\nb:new\n")
			p.stdin.Close()
			p.wantExit(0)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
			// A new record rolls the segment, so that the one before it can be compacted.
			p := start(t, broker.Addrs(), topic, "kafkawrite", "-key", "c")
			p.write("tick\n")
			p.stdin.Close()
			p.wantExit(0)
			p = start(t, broker.Addrs(), topic, "kafkaread", "-offset", "oldest", "-exit")
			p.wantExit(0)
			if got := p.out.String(); strings.HasPrefix(got, "new\nnew\n") {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("it is not compacted: %.100q ...", got)
			}
		}
		// From inside the hole, and to an end before it.
		p := start(t, broker.Addrs(), topic, "kafkaread", "-offset", "10", "-n", "2", "-format", "%k")
		p.wantExit(0)
		if p.out.String() != "ab" {
			t.Errorf("from inside a hole it printed %q", p.out.String())
		}
	})
}
