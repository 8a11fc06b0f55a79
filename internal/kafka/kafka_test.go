package kafka_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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

// patience is for what takes a healthy Kafka milliseconds, on a machine that is busy.
const patience = 60 * time.Second

// fromEnv reads NAME=VALUE pairs with semicolons between. It returns the names asked for, too.
func fromEnv(vars string) (c *kafka.Cluster, asked map[string]bool, err error) {
	asked = make(map[string]bool)
	c, err = kafka.FromEnv(func(name string) (value string) {
		asked[name] = true
		for v := range strings.SplitSeq(vars, ";") {
			if rest, ok := strings.CutPrefix(v, name+"="); ok {
				value = rest
			}
		}
		return value
	})
	return c, asked, err
}

// at returns the cluster at these brokers, with more variables if there are any.
func at(t *testing.T, brokers string, vars ...string) *kafka.Cluster {
	t.Helper()
	c, _, err := fromEnv("KAFKA_BROKER=" + brokers + ";" + strings.Join(vars, ";"))
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

func TestFromEnv(t *testing.T) {
	t.Parallel()
	const notPEM = "kafka_test.go"
	for vars, want := range map[string]string{ // brokers, or else a pattern of the error
		"":                                                 `localhost:9092`,
		"KAFKA_BROKER=a:1,b,10.0.0.1 , c:9":                `a:1 b:9092 10.0.0.1:9092 c:9`,
		"KAFKA_BROKER=::1":                                 `[::1]:9092`,
		"KAFKA_BROKER=[::1]:9093,[fe80::1]:2":              `[::1]:9093 [fe80::1]:2`,
		"KAFKA_BROKER=,":                                   `^KAFKA_BROKER=",": "" is no host:port; valid is`,
		"KAFKA_BROKER=a:0":                                 `^KAFKA_BROKER="a:0": "a:0" is no host:port; valid is host:port, .* from 1 to 65535`,
		"KAFKA_BROKER=a:70000":                             `"a:70000" is no host:port`,
		"KAFKA_BROKER=tcp://a:1":                           `"tcp://a:1" is no host:port`,
		"KAFKA_BROKERS=a:1":                                `^KAFKA_BROKERS="a:1" is not read: the variable is KAFKA_BROKER$`,
		"KAFKA_BROKERS=a:1;KAFKA_BROKER=b:2":               `b:2`,
		"KAFKA_TLS=yes":                                    `^KAFKA_TLS="yes": valid is true or false$`,
		"KAFKA_TLS=1;KAFKA_TLS_CA=/missing":                `^KAFKA_TLS_CA="/missing": open .*`,
		"KAFKA_TLS=1;KAFKA_TLS_CA=" + notPEM:               `^KAFKA_TLS_CA="kafka_test.go": there is no certificate in this file`,
		"KAFKA_TLS=1;KAFKA_TLS_CERT=" + notPEM:             `^KAFKA_TLS_CERT=".*", KAFKA_TLS_KEY="": .*valid are two PEM files`,
		"KAFKA_SASL_MECHANISM=plain":                       `^KAFKA_SASL_MECHANISM="plain": valid is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512$`,
		"KAFKA_SASL_MECHANISM=PLAIN;KAFKA_SASL_PASSWORD=x": `^KAFKA_SASL_MECHANISM="PLAIN" needs KAFKA_SASL_USERNAME and `,
	} {
		if c, _, err := fromEnv(vars); err != nil {
			wantError(t, err, want)
		} else if got := strings.Join(c.Brokers, " "); got != want {
			t.Errorf("%q: %q, want %q", vars, got, want)
		}
	}
	for topic, want := range map[string]string{ // TOPIC, and the topic or the error
		"": "^chat$", "a.b_c-D9": "^a.b_c-D9$", "..": "valid are", "a b": `^TOPIC="a b": valid are 1 to 249 letters`, strings.Repeat("x", 250): "valid are",
	} {
		got, err := kafka.Topic(func(string) string { return topic })
		wantError(t, cmp.Or(err, errors.New(got)), want)
	}
	listed := map[string]bool{"KUBERNETES_SERVICE_HOST": true, "KAFKA_BROKERS": true} // Kubernetes sets the first, the other is a slip
	for _, v := range kafka.Variables() {
		listed[v.Name] = true
	}
	if _, asked, _ := fromEnv("KAFKA_TLS=true"); !maps.Equal(asked, listed) {
		t.Errorf("asked for are %v, listed %v", asked, listed)
	}
}

// FuzzFromEnv: whatever the variables say, the answer is brokers that can be dialled, or an error.
func FuzzFromEnv(f *testing.F) {
	f.Add("a:1,b", "true", "PLAIN", "u", "p")
	f.Add("[::1]:2", "0", "", "", "")
	f.Add("::", "", "SCRAM-SHA-256", "", "")
	f.Fuzz(func(t *testing.T, broker, tls, mechanism, user, password string) {
		cluster, _, err := fromEnv(fmt.Sprintf("KAFKA_BROKER=%s;KAFKA_TLS=%s;KAFKA_SASL_MECHANISM=%s;"+
			"KAFKA_SASL_USERNAME=%s;KAFKA_SASL_PASSWORD=%s", broker, tls, mechanism, user, password))
		if err != nil {
			return
		}
		if err := cluster.Config(t.Context(), "fuzz").Validate(); err != nil || len(cluster.Brokers) == 0 {
			t.Errorf("%q: there is no broker, or sarama does not accept the settings: %v", broker, err)
		}
	})
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

// What a person reads who has named the wrong brokers works from where this person stands.
func TestCheck(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	web, hasty := httptest.NewServer(nil), httptest.NewUnstartedServer(nil)
	hasty.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew {
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}
	}
	hasty.Start()
	t.Cleanup(web.Close)
	t.Cleanup(hasty.Close)
	const pod = "KUBERNETES_SERVICE_HOST=10.0.0.1"
	for name, c := range map[string]struct{ brokers, place, want string }{
		"a dead one and a live one": {dead + "," + brokers, "", `^<nil>$`},
		"no broker": {dead + "," + dead, "", "^no Kafka broker at 127.0.0.1:1 \\(connection refused\\), 127.0.0.1:1 \\(connection refused\\): " +
			"correct KAFKA_BROKER, or start a broker \\(.*`go run ./chatserver` has one inside\\)$"},
		"the port of the page": {web.Listener.Addr().String(), "",
			`^no Kafka broker at .* \(no answer\): .*; a web server is at 127.0.0.1:\d+, and a broker's port is usually 9092$`},
		"a hasty web server": {hasty.Listener.Addr().String(), "",
			`^no Kafka broker at 127.0.0.1:\d+ \(its answer is not Kafka's\): a broker's port is usually 9092$`},
		"no broker, in a pod": {dead, pod, `^no Kafka broker at 127.0.0.1:1 \(connection refused\): ` +
			`KAFKA_BROKER must name a Service of this cluster that has a broker \(kubectl get endpoints\)$`},
		"a name": {"kafka.invalid:9092", "", `^no Kafka broker at kafka.invalid:9092 ` +
			`\(this .* name\): correct the name, or add the line "127.0.0.1 kafka.invalid" .*hosts`},
		// What happens to students who have no line for the name kafka in /etc/hosts.
		"advertised name": {advertising(t, "kafka.invalid:9092"), "",
			`^the broker at .* sends its clients to kafka.invalid:9092 .* add the line "127.0.0.1 kafka.invalid" `},
		"advertised name, in a pod": {advertising(t, "kafka.invalid:9092"), pod,
			`sends its clients to kafka.invalid:9092 \(.* in this cluster\), .*: it must be the name of a Service \(kubectl get services\)$`},
		"two advertise the dead": {advertising(t, dead) + "," + advertising(t, dead), "", `^the broker at 127.0.0.1:\d+, 127.0.0.1:\d+ ` +
			`answers, but sends its clients to 127.0.0.1:1 \(connection refused\), .*advertised.listeners`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, c.want, func() any { // on a busy machine a time-out may come first
				return at(t, c.brokers, c.place).Check(t.Context())
			})
		})
	}
}

// A missing topic is made once. Who has mistyped a name, or has a topic that needs all its brokers, is told what to do.
func TestTopics(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	c := at(t, brokers)
	topic := kafkatest.Topic(t, brokers)
	if s, err := c.EnsureTopic(t.Context(), topic, nil); err != nil || s.Made || s.Partitions != 1 || s.Copies != 1 || s.MinInSync != 1 {
		t.Errorf("a topic that exists: %+v, %v", s, err)
	}
	kafkatest.Recreate(t, brokers, "kiwi")
	did := func(mean string) string { return fmt.Sprintf(` \(did you mean %q\?\)`, mean) }
	for name, hint := range map[string]string{
		topic + "ss": did(topic), strings.ToUpper(topic): did(topic), "kwii": did("kiwi"), "kwi": did("kiwi"), "ki": "",
	} {
		n, err := c.Lookup(t.Context(), name)
		if wantError(t, err, fmt.Sprintf("^there is no topic %q%s$", name, hint)); n != 0 || !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			t.Errorf("a missing topic: %d partitions, %v", n, err)
		}
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
	for state, want := range map[kafka.State]string{
		{Copies: 1, MinInSync: 1}: "^$", {Copies: 3, MinInSync: 2}: "^$", {Copies: 2}: "^$", // the last: not known
		{Copies: 3, MinInSync: 3}: "^kafka-configs.sh .* --entity-name chat --add-config min.insync.replicas=2$",
	} {
		wantError(t, errors.New(state.Mend("chat")), want)
	}
}

// Clients of a broker that hangs can be closed after the end of their context, and leave nothing.
func TestConfigEndsWithContext(t *testing.T) {
	_, topic, proxy := proxied(t)
	before := goleak.IgnoreCurrent()
	c := at(t, proxy.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := c.Config(ctx, "producer")
	patient(config)
	producer, err := sarama.NewSyncProducer(c.Brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("c")})
		return err
	}
	send()
	session := read(t, c, topic)
	expect(t, session.Messages(), "a", "b", "c")

	proxy.Pause(kafkatest.Both)
	time.AfterFunc(20*time.Millisecond, cancel) // while send is under way
	if send() == nil {
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
		for _, text := range []string{"EOF", "read tcp a:50000->kafka:9092: timeout", "EOF", "read tcp a:50001->kafka:9092: timeout"} {
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
			w.Failed(t.Context(), sarama.ErrUnknown)
		}
		if tries > 80 || len(said) < 8 || len(said) > 11 {
			t.Errorf("%d times tried within ten minutes, and said %q", tries, said)
		}
	})
}
