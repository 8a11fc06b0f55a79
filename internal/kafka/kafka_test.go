package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"go.uber.org/goleak"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// patience is for what takes a healthy Kafka milliseconds, on a machine that is busy with other
// tests.
const patience = 60 * time.Second

func cluster(t *testing.T, vars map[string]string) *kafka.Cluster {
	t.Helper()
	c, err := kafka.FromEnv(env(vars))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(t *testing.T, brokers string) *kafka.Cluster {
	t.Helper()
	return cluster(t, map[string]string{"KAFKA_BROKER": brokers})
}

// wantError checks that err is one line that matches.
func wantError(t *testing.T, what string, err error, pattern string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %s", what, pattern)
	case !regexp.MustCompile(pattern).MatchString(err.Error()) || strings.Contains(err.Error(), "\n"):
		t.Errorf("%s: %q does not match %s", what, err, pattern)
	}
}

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	// Not a port that was free a moment ago: it may be another test's by now.
	return "127.0.0.1:1" // tcpmux, which nobody runs
}

// silentAddr is an address where somebody listens who never says anything.
func silentAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	if err := at(t, brokers).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := at(t, deadAddr(t)+","+brokers).Check(t.Context()); err != nil {
		t.Errorf("with a dead broker before the live one: %v", err)
	}
	wantError(t, "no broker", at(t, deadAddr(t)).Check(t.Context()),
		"^no Kafka broker at 127.0.0.1:\\d+ \\(connection refused\\): start one with `go run ./chatserver`, or set KAFKA_BROKER$")
	wantError(t, "two dead brokers", at(t, deadAddr(t)+","+deadAddr(t)).Check(t.Context()),
		`^no Kafka broker at 127.0.0.1:\d+ \(connection refused\), 127.0.0.1:\d+ \(connection refused\): `)
	wantError(t, "a silent broker", at(t, silentAddr(t)).Check(t.Context()),
		`^no Kafka broker at 127.0.0.1:\d+ \(no answer\): `)
	wantError(t, "a name that nobody knows", at(t, "no-such-host.invalid").Check(t.Context()),
		`^this machine cannot resolve the name "no-such-host.invalid" of the broker no-such-host.invalid:9092: correct KAFKA_BROKER, or add the line "127.0.0.1 no-such-host.invalid" to .*hosts`)

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	if err := at(t, silentAddr(t)).Check(ctx); err == nil {
		t.Error("a check that was called off has no error")
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("a check that was called off went on for %v", d)
	}
}

// advertising is a broker that says it is to be reached at addr.
func advertising(t *testing.T, addr string) *sarama.MockBroker {
	t.Helper()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker(addr, 1).SetController(1).SetLeader("chat", 0, 1),
	})
	return broker
}

// TestUnknownAdvertisedName is what happens to students who have no line for the name kafka in
// /etc/hosts.
func TestUnknownAdvertisedName(t *testing.T) {
	t.Parallel()
	broker := advertising(t, "kafka.invalid:9092")
	want := `^the broker at 127.0.0.1:\d+ advertises itself as kafka.invalid:9092, and this machine cannot resolve the name "kafka.invalid": add the line "127.0.0.1 kafka.invalid" to .*hosts$`
	wantError(t, "a check", at(t, broker.Addr()).Check(t.Context()), want)

	c := at(t, broker.Addr())
	warnings := make(chan error, 10)
	c.Warn = func(err error) { warnings <- err }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			client, err := sarama.NewClient(c.Brokers, c.Config(ctx, "test"))
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			client.GetOffset("chat", 0, sarama.OffsetNewest)
		})
	}
	select {
	case err := <-warnings:
		wantError(t, "a client", err, want)
	case <-time.After(patience):
		t.Fatal("no warning")
	}
	cancel()
	clients.Wait()
	if len(warnings) > 0 {
		t.Errorf("the same warning twice: %v", <-warnings)
	}
}

func TestUnreachableAdvertisedAddress(t *testing.T) {
	t.Parallel()
	wantError(t, "a check", at(t, advertising(t, deadAddr(t)).Addr()).Check(t.Context()),
		`^the broker at 127.0.0.1:\d+ answers, but sends its clients to 127.0.0.1:\d+ \(connection refused\), .*advertised.listeners`)
}

func TestEnsureTopic(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	c := at(t, brokers)
	topic := kafkatest.Topic(t, brokers)
	s, err := c.EnsureTopic(t.Context(), topic, nil)
	if s.Made || s.Partitions != 1 || s.Copies != 1 || s.MinInSync != 1 || err != nil {
		t.Errorf("a topic that exists: %+v, %v", s, err)
	}

	missing := topic + "s"
	want := fmt.Sprintf("did you mean %q? there is no topic %q", topic, missing)
	if n, err := c.Lookup(t.Context(), missing); n != 0 || !errors.Is(err, sarama.ErrUnknownTopicOrPartition) || err.Error() != want {
		t.Errorf("a missing topic: %d partitions, %v", n, err)
	}
	var creators sync.WaitGroup
	made := make(chan bool, 4)
	for range cap(made) {
		creators.Go(func() {
			s, err := c.EnsureTopic(t.Context(), missing, nil)
			if s.Partitions != 1 || err != nil {
				t.Errorf("EnsureTopic: %+v, %v", s, err)
			}
			made <- s.Made
		})
	}
	creators.Wait()
	close(made)
	makers := 0
	for created := range made {
		if created {
			makers++
		}
	}
	if makers != 1 {
		t.Errorf("%d of four made the topic", makers)
	}
	if n, err := c.Lookup(t.Context(), missing); n != 1 || err != nil {
		t.Errorf("the new topic: %d partitions, %v", n, err)
	}
	deleteTopic(t, brokers, missing)
}

func deleteTopic(t *testing.T, brokers, topic string) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(strings.Split(brokers, ","), config)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.DeleteTopic(topic); err != nil {
		t.Error(err)
	}
}

// TestConfigEndsWithContext closes a client of a broker that hangs, after the end of its context.
func TestConfigEndsWithContext(t *testing.T) {
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	before := goleak.IgnoreCurrent()
	c := at(t, proxy.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	producer, err := sarama.NewSyncProducer(c.Brokers, c.Config(ctx, "producer"))
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := sarama.NewConsumer(c.Brokers, c.Config(ctx, "consumer"))
	if err != nil {
		t.Fatal(err)
	}
	message := func() *sarama.ProducerMessage {
		return &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("hello")}
	}
	if _, _, err := producer.SendMessage(message()); err != nil {
		t.Fatal(err)
	}
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-partition.Messages():
	case <-time.After(patience):
		t.Fatal("no message")
	}

	proxy.Pause(kafkatest.Both)
	sent := make(chan error, 1)
	go func() {
		_, _, err := producer.SendMessage(message())
		sent <- err
	}()
	time.Sleep(20 * time.Millisecond) // so that it is usually under way
	began := time.Now()
	cancel()
	if err := <-sent; err == nil {
		t.Error("a message that nobody acknowledged has no error")
	}
	producer.Close()
	partition.Close()
	consumer.Close()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("closing took %v", d)
	}
	proxy.Resume() // so that it sees which connections are closed
	for deadline := time.Now().Add(patience); proxy.Conns() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", proxy.Conns())
		}
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
