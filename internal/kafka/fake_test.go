package kafka_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// fake returns the address of a broker that has the topic "two" with two partitions, and answers
// requests of this kind as a test wishes; nil answers are its own.
func fake(t *testing.T, key kmsg.Key, answer func(kmsg.Request) kmsg.Response) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "two"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.ControlKey(key.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		response := answer(request)
		return response, nil, response != nil
	})
	return c.ListenAddrs()[0]
}

// Partition 0 works at once while the broker of partition 1 is away; what is said about partition 1
// names it.
func TestOnePartitionIsAway(t *testing.T) {
	t.Parallel()
	var addr string
	addr = fake(t, kmsg.Metadata, func(request kmsg.Request) kmsg.Response {
		host, port, _ := strings.Cut(addr, ":")
		r := request.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		b.Host = host
		for _, digit := range port {
			b.Port = 10*b.Port + digit - '0'
		}
		r.Brokers = append(r.Brokers, b)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr("two")
		for i, leader := range []int32{0, -1} {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.Replicas = int32(i), leader, []int32{int32(i)}
			if leader < 0 {
				p.ErrorCode = kerr.LeaderNotAvailable.Code
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		r.Topics = append(r.Topics, topic)
		return r
	})
	began := time.Now()
	cluster := at(t, addr)
	state, err := cluster.EnsureTopic(t.Context(), "two", nil)
	if state.Partitions != 2 || err != nil {
		t.Fatalf("got %+v, %v", state, err)
	}
	producer, err := sarama.NewSyncProducer(cluster.Brokers, cluster.Config(t.Context(), "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "two", Value: sarama.StringEncoder("a")}); err != nil {
		t.Fatal(err)
	}
	_, p := open(t, cluster, "two")
	expect(t, p, "a")

	said := make(chan error, 10)
	consumer, err := cluster.NewConsumer(t.Context(), "test", "two", kafka.Following{ToEnd: true, Say: func(partition int32, err error) {
		if partition == 1 {
			said <- err
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	for i := range int32(2) {
		q, err := consumer.ConsumePartition("two", i, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			expect(t, q, "a")
			ended(t, q)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("partition 0 took %v", took)
	}
	select {
	case err := <-said:
		wantError(t, "what is said", err, `partition 1 of topic "two".*leader`)
	case <-time.After(patience):
		t.Error("nothing is said about partition 1")
	}
}

// What a person has to change ends a reader at once, with a sentence.
func TestNotAllowedToRead(t *testing.T) {
	t.Parallel()
	addr := fake(t, kmsg.Fetch, func(request kmsg.Request) kmsg.Response {
		r := request.ResponseKind().(*kmsg.FetchResponse)
		for _, t := range request.(*kmsg.FetchRequest).Topics {
			topic := kmsg.NewFetchResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			p := kmsg.NewFetchResponseTopicPartition()
			p.ErrorCode, p.RecordBatches = kerr.TopicAuthorizationFailed.Code, []byte{}
			topic.Partitions = append(topic.Partitions, p)
			r.Topics = append(r.Topics, topic)
		}
		return r
	})
	kafkatest.Produce(t, addr, "two", "a")
	s, p := open(t, at(t, addr), "two")
	ended(t, p)
	if s.Reached(0) != -1 || kafka.KindOf(s.Err()) != kafka.Permanent {
		t.Errorf("reached %d, %v", s.Reached(0), s.Err())
	}
	for _, toEnd := range []bool{true, false} {
		c, err := at(t, addr).NewConsumer(t.Context(), "test", "two", kafka.Following{ToEnd: toEnd})
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.ConsumePartition("two", 0, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		ended(t, p)
		wantError(t, "a reader", c.Err(), `^this client .* must not read topic "two": .* the right READ on it \(Kafka: .*\)$`)
		if !kafka.NotAllowed(c.Err()) || !errors.Is(c.Err(), sarama.ErrTopicAuthorizationFailed) {
			t.Errorf("%v is not what Kafka said", c.Err())
		}
		c.Close()
	}
}

// Advice works from where the person stands.
func TestAdvice(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	for name, c := range map[string]struct {
		broker    string
		inPod, in bool
		want      string
	}{
		"laptop":               {deadAddr(t), false, false, "start one with `go run ./chatserver`, or set KAFKA_BROKER$"},
		"server":               {deadAddr(t), false, true, "unset KAFKA_BROKER to have a broker inside$"},
		"pod":                  {deadAddr(t), true, true, `KAFKA_BROKER must name a Service of this cluster`},
		"name, laptop":         {"kafka.invalid:9092", false, false, `add the line "127.0.0.1 kafka.invalid" to `},
		"name, pod":            {"kafka.invalid:9092", true, true, `kubectl get services`},
		"advertised name, pod": {advertising(t, "kafka.invalid:9092").Addr(), true, true, `advertised.listeners must name a Service`},
		"the port of the page": {web.Listener.Addr().String(), false, false, `a web server is there; a broker's port is usually 9092`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vars := map[string]string{"KAFKA_BROKER": c.broker}
			if c.inPod {
				vars["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
			}
			cluster := cluster(t, vars)
			cluster.BrokerInside = c.in
			err := cluster.Check(t.Context())
			wantError(t, "a check", err, c.want)
			if c.inPod && (strings.Contains(err.Error(), "go run") || strings.Contains(err.Error(), "/etc/hosts")) {
				t.Errorf("nobody can do that in a pod: %v", err)
			}
		})
	}
}

func TestInsecure(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ann", "KAFKA_SASL_PASSWORD": "secret"}
	wantError(t, "PLAIN", cluster(t, vars).Insecure(), `^KAFKA_SASL_MECHANISM=PLAIN without KAFKA_TLS=true sends the password of user "ann" .* in the clear`)
	vars["KAFKA_TLS"] = "true"
	if err := cluster(t, vars).Insecure(); err != nil {
		t.Errorf("with TLS: %v", err)
	}
	vars["KAFKA_TLS"], vars["KAFKA_SASL_MECHANISM"] = "", "SCRAM-SHA-256"
	if err := cluster(t, vars).Insecure(); err != nil {
		t.Errorf("SCRAM: %v", err)
	}
}

// The pause between attempts grows, and each reason is said once.
func TestWait(t *testing.T) {
	t.Parallel()
	var said []string
	w := kafka.Wait{Say: func(err error) { said = append(said, fmt.Sprint(err)) }}
	var pauses []time.Duration
	for _, text := range []string{"EOF", "read tcp 10.0.0.1:50000->kafka:9092: timeout", "EOF", "read tcp 10.0.0.1:50001->kafka:9092: timeout"} {
		err := errors.New(text)
		began := time.Now()
		if !w.Failed(t.Context(), err) {
			t.Fatal("the context has not ended")
		}
		pauses = append(pauses, time.Since(began))
	}
	w.Worked()
	w.Worked()
	if want := []string{"EOF", "kafka:9092: timeout", "<nil>"}; !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	for i, least := range []time.Duration{100, 200, 400, 800} {
		if pauses[i] < least*time.Millisecond {
			t.Errorf("pause %d is %v", i, pauses[i])
		}
	}
}
