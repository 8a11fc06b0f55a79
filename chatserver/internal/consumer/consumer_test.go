package consumer_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	gometrics "github.com/rcrowley/go-metrics"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/consumer"
	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) {
	gometrics.UseNilMetrics = true // as main does
	os.Exit(m.Run())
}

// patience is long because the machine may be busy with other tests.
const patience = 60 * time.Second

func cluster(t *testing.T, brokers string) *kafka.Cluster {
	t.Helper()
	c, err := kafka.FromEnv(func(name string) string {
		if name == "KAFKA_BROKER" {
			return brokers
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// consume opens a session and a consumer of everything that is in the topic, both of which end with
// the test.
func consume(t *testing.T, s *consumer.Session, topic string) sarama.PartitionConsumer {
	t.Helper()
	c, err := sarama.NewConsumerFromClient(s.Client)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.ConsumePartition(topic, 0, s.Oldest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Cut()
		p.Close()
		c.Close()
		s.Close()
	})
	return p
}

func TestSessionKnowsTheTopicsBounds(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b", "c")
	s, err := consumer.Open(t.Context(), cluster(t, brokers), "test", topic)
	if err != nil {
		t.Fatal(err)
	}
	if s.Oldest != 0 || s.Newest != 3 {
		t.Errorf("the topic is from %d to %d", s.Oldest, s.Newest)
	}
	p := consume(t, s, topic)
	for _, want := range []string{"a", "b", "c"} {
		select {
		case r := <-p.Messages():
			if string(r.Value) != want {
				t.Fatalf("got %q, want %q", r.Value, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", want)
		}
	}
	select {
	case <-s.Broken:
		t.Error("broken, though all is well")
	default:
	}
}

func TestMissingTopicIsNamed(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // while the broker may just be making it, sarama asks again
	defer cancel()
	_, err := consumer.Open(ctx, cluster(t, kafkatest.Broker(t)), "test", "no-such-topic")
	if err == nil || !strings.Contains(err.Error(), `"no-such-topic"`) {
		t.Errorf("got %v", err)
	}
}

// The owner learns of a lost leader, and nothing is consumed again behind its back: not even if a
// topic of the same name has other records by then.
func TestLostLeaderIsToldAndNotRepaired(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a")
	proxy := kafkatest.NewProxy(t, brokers)
	s, err := consumer.Open(t.Context(), cluster(t, proxy.Addr()), "test", topic)
	if err != nil {
		t.Fatal(err)
	}
	p := consume(t, s, topic)
	<-p.Messages()
	proxy.Cut()
	select {
	case <-s.Broken:
	case <-time.After(patience):
		t.Fatal("not told of the lost leader")
	}
	kafkatest.Recreate(t, brokers, topic, "other a", "other b", "other c")
	select {
	case r, ok := <-p.Messages():
		if ok {
			t.Errorf("went on by itself, with %q", r.Value)
		}
	case <-time.After(time.Second): // ten times what sarama takes to go on
	}
}

func TestCutEndsEverythingAtOnce(t *testing.T) {
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	ignore := goleak.IgnoreCurrent()
	s, err := consumer.Open(t.Context(), cluster(t, proxy.Addr()), "test", topic)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sarama.NewConsumerFromClient(s.Client)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.ConsumePartition(topic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	proxy.Pause(kafkatest.Answers) // a fetch that is never answered
	begun := time.Now()
	s.Cut()
	s.Cut()
	p.Close()
	c.Close()
	s.Close()
	if took := time.Since(begun); took > 2*time.Second { // the fetch's own time-out is longer
		t.Errorf("closing took %v", took)
	}
	goleak.VerifyNone(t, ignore)
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	proxy := kafkatest.NewProxy(t, kafkatest.Broker(t))
	proxy.Pause(kafkatest.Requests)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if s, err := consumer.Open(ctx, cluster(t, proxy.Addr()), "test", "chat"); err == nil {
		s.Close()
		t.Error("opened")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
}
