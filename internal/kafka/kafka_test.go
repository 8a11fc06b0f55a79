package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Shopify/sarama"
	"go.uber.org/goleak"

	"kafkachat/internal/kafka"
	"kafkachat/internal/kafkatest"
)

// patience is for what takes a healthy Kafka milliseconds, on a machine that is busy with other
// tests.
const patience = 60 * time.Second

// at returns the cluster at these brokers, with more variables if there are any.
func at(t *testing.T, brokers string, vars ...string) *kafka.Cluster {
	t.Helper()
	c, err := fromEnv("KAFKA_BROKER=" + brokers + ";" + strings.Join(vars, ";"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// matches says whether got is one line that matches.
func matches(pattern string, got any) bool {
	line := fmt.Sprint(got)
	return regexp.MustCompile(pattern).MatchString(line) && !strings.Contains(line, "\n")
}

func wantError(t *testing.T, err error, pattern string) {
	t.Helper()
	if !matches(pattern, err) {
		t.Errorf("%v does not match %s", err, pattern)
	}
}

// within repeats look until what it returns matches, or ends the test.
func within(t *testing.T, pattern string, look func() any) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if got := look(); matches(pattern, got) {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%v does not become %s", got, pattern)
		}
	}
}

const dead = "127.0.0.1:1" // tcpmux, which nobody runs

// advertising is a broker that says it is to be reached at addr.
func advertising(t *testing.T, addr string) string {
	t.Helper()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker(addr, 1).SetController(1).SetLeader("chat", 0, 1),
	})
	return broker.Addr()
}

func listen(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// What a person reads who has named the wrong brokers works from where this person stands.
func TestCheck(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	silent, hasty := listen(t), listen(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	go func() {
		for conn, err := hasty.Accept(); err == nil; conn, err = hasty.Accept() {
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}
	}()
	const pod = "KUBERNETES_SERVICE_HOST=10.0.0.1"
	for name, c := range map[string]struct{ brokers, place, want string }{
		"a broker":                  {brokers, "", `^<nil>$`},
		"a dead one and a live one": {dead + "," + brokers, "", `^<nil>$`},
		"a nameless and a live one": {"kafka.invalid," + brokers, "", `^<nil>$`},
		"no broker": {dead + "," + dead, "",
			"^no Kafka broker at 127.0.0.1:1 \\(connection refused\\), 127.0.0.1:1 \\(connection refused\\): correct KAFKA_BROKER, or start a broker \\(.*`go run ./chatserver` has one inside\\)$"},
		"a silent one":         {silent.Addr().String(), "", `^no Kafka broker at 127.0.0.1:\d+ \(no answer\): [^;]*$`},
		"the port of the page": {web.Listener.Addr().String(), "", `; a web server is at 127.0.0.1:\d+, and a broker's port is usually 9092$`},
		"a hasty web server":   {hasty.Addr().String(), "", `^no Kafka broker at 127.0.0.1:\d+ \(its answer is not Kafka's\): a broker's port is usually 9092$`},
		"no broker, in a pod":  {dead, pod, `KAFKA_BROKER must name a Service of this cluster`},
		"a name":               {"kafka.invalid:9092", "", `^no Kafka broker at kafka.invalid:9092 \(this .* name\): correct the name, or add the line "127.0.0.1 kafka.invalid" .*hosts`},
		"a name, in a pod":     {"kafka.invalid:9092", pod, `^no Kafka broker at kafka.invalid:9092 .*kubectl get services`},
		// What happens to students who have no line for the name kafka in /etc/hosts.
		"advertised name":           {advertising(t, "kafka.invalid:9092"), "", `^the broker at .* sends its clients to kafka.invalid:9092 .* add the line "127.0.0.1 kafka.invalid" `},
		"advertised name, in a pod": {advertising(t, "kafka.invalid:9092"), pod, `^the broker at .* sends its clients to kafka.invalid:9092 .* must be the name of a Service`},
		"two advertise the dead": {advertising(t, dead) + "," + advertising(t, dead), "",
			`^the broker at 127.0.0.1:\d+, 127.0.0.1:\d+ answers, but sends its clients to 127.0.0.1:1 \(connection refused\), .*advertised.listeners`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			within(t, c.want, func() any { // on a busy machine a time-out may come first
				err = at(t, c.brokers, c.place).Check(t.Context())
				return err
			})
			if c.place == pod && (strings.Contains(err.Error(), "go run") || strings.Contains(err.Error(), "/etc/hosts")) {
				t.Errorf("nobody can do that in a pod: %v", err)
			}
		})
	}
}

// A missing topic is made once, whoever asks for it at the same time; whoever has mistyped a name is
// told the one that there is.
func TestTopics(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	c := at(t, brokers)
	topic := kafkatest.Topic(t, brokers)
	if s, err := c.EnsureTopic(t.Context(), topic, nil); err != nil || s.Made || s.Partitions != 1 || s.Copies != 1 || s.MinInSync != 1 {
		t.Errorf("a topic that exists: %+v, %v", s, err)
	}
	n, did := len(topic), fmt.Sprintf(` [(]did you mean %q[?][)]`, topic)
	for name, hint := range map[string]string{topic + "s": did, topic[:n-1]: did, topic[:n-2] + "_" + topic[n-2:]: did,
		strings.ToUpper(topic): did, "tset" + topic[4:]: did, "quite-another": ""} {
		partitions, err := c.Lookup(t.Context(), name)
		if wantError(t, err, fmt.Sprintf("^there is no topic %q%s$", name, hint)); partitions != 0 || !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			t.Errorf("a missing topic: %d partitions, %v", partitions, err)
		}
	}
	if _, err := c.EnsureTopic(t.Context(), "kiwi", nil); err != nil {
		t.Fatal(err)
	}
	for name, hint := range map[string]string{"kwii": ` [(]did you mean "kiwi"[?][)]`, "kwi": ` [(]did you mean "kiwi"[?][)]`, "ki": ""} {
		_, err := c.Lookup(t.Context(), name)
		wantError(t, err, fmt.Sprintf("^there is no topic %q%s$", name, hint))
	}
	missing := kafkatest.TopicName(t, brokers)
	var creators sync.WaitGroup
	var makers atomic.Int64
	for range 4 {
		creators.Go(func() {
			s, err := c.EnsureTopic(t.Context(), missing, nil)
			if s.Partitions != 1 || err != nil {
				t.Errorf("EnsureTopic: %+v, %v", s, err)
			}
			if s.Made {
				makers.Add(1)
			}
		})
	}
	creators.Wait()
	if n, err := c.Lookup(t.Context(), missing); n != 1 || err != nil || makers.Load() > 1 { // none, if Kafka answered late
		t.Errorf("%d of four made the new topic: %d partitions, %v", makers.Load(), n, err)
	}
}

func TestMend(t *testing.T) {
	t.Parallel()
	for state, want := range map[kafka.State]string{ // 0 is not known
		{Copies: 1, MinInSync: 1}: "^$", {Copies: 3, MinInSync: 2}: "^$", {Copies: 2, MinInSync: 0}: "^$",
		{Copies: 2, MinInSync: 2}: "^kafka-configs.sh .* --entity-name chat --add-config min.insync.replicas=1$",
		{Copies: 3, MinInSync: 3}: "=2$",
	} {
		if got := state.Mend("chat"); !matches(want, got) {
			t.Errorf("%+v: %q, want %s", state, got, want)
		}
	}
}

// The clients of a broker that hangs can be closed after the end of their context, and nothing of
// them is left.
func TestConfigEndsWithContext(t *testing.T) {
	_, topic, proxy := proxied(t)
	before := goleak.IgnoreCurrent()
	c := at(t, proxy.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	patient := func(config *sarama.Config) { config.Net.ReadTimeout = time.Hour }
	config := c.Config(ctx, "producer")
	patient(config)
	producer, err := sarama.NewSyncProducer(c.Brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 2)
	send := func() {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("c")})
		sent <- err
	}
	if send(); <-sent != nil {
		t.Fatal("nothing can be sent")
	}
	session := read(t, c, topic, patient)
	expect(t, session, "a", "b", "c")

	proxy.Pause(kafkatest.Both)
	go send()
	time.Sleep(20 * time.Millisecond) // so that it is usually under way
	cancel()
	if err := <-sent; err == nil {
		t.Error("a message that nobody acknowledged has no error")
	}
	producer.Close()
	session.Close()
	proxy.Resume() // so that it sees which connections are closed
	within(t, "^0$", func() any { return proxy.Conns() })
	within(t, "^<nil>$", func() any { return goleak.Find(before) })
}

// The pause between attempts grows, and each reason is said once, and once a minute.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		w := kafka.Wait{Say: func(err error) { said = append(said, fmt.Sprint(err)) }}
		pause := 100 * time.Millisecond
		for _, text := range []string{"EOF", "read tcp 10.0.0.1:50000->kafka:9092: timeout", "EOF", "read tcp 10.0.0.1:50001->kafka:9092: timeout"} {
			began := time.Now()
			if !w.Failed(t.Context(), errors.New(text)) || time.Since(began) != pause {
				t.Errorf("a pause of %v, want %v", time.Since(began), pause)
			}
			pause *= 2
		}
		w.Worked()
		w.Worked()
		if want := []string{"EOF", "kafka:9092: timeout", "<nil>"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		began, tries := time.Now(), 0
		for said = nil; time.Since(began) < 10*time.Minute; tries++ {
			w.Failed(t.Context(), errors.New("refused"))
		}
		if tries > 80 || len(said) < 8 || len(said) > 11 {
			t.Errorf("%d times tried within ten minutes, and said %q", tries, said)
		}
	})
}
