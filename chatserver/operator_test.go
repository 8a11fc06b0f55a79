package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"

	"kafkachat/internal/kafkatest"
)

func TestOperatorsView(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	a := startPod(t, env)
	if !strings.HasPrefix(a.admin, "http://127.0.0.1:") {
		t.Fatalf("the metrics are at %q", a.admin)
	}
	raw, chat := a.raw(""), a.chat("?after=0.00000000")
	chat.arrive()
	raw.echo("one")
	chat.until("message")
	chat.publish(longID("two"), "two")
	raw.want("two")
	chat.send("{}")
	chat.until("reject")
	kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"],
		&sarama.ProducerMessage{Value: sarama.StringEncoder("\xff")},
		&sarama.ProducerMessage{Value: sarama.StringEncoder("two"), Headers: []sarama.RecordHeader{{Key: []byte("id"), Value: []byte(longID("two"))}}},
		&sarama.ProducerMessage{Value: sarama.StringEncoder("last")})
	raw.want("(1 bytes that are not text)")
	raw.want("last")
	for name, want := range map[string]float64{
		"chat_connections": 2, "chat_kafka_up": 1, "chat_consumer_lag_records": 0,
		`chat_messages_in_total{protocol="raw"}`: 1, `chat_messages_in_total{protocol="chat.v1"}`: 1,
		"chat_records_total": 5, "chat_placeholders_total": 1, "chat_copies_dropped_total": 1,
		"chat_log_messages": 4, "chat_log_end_offset": 5, "chat_log_start_offset": 0,
		"chat_deliveries_total": 8, "chat_publish_seconds_count": 2, "chat_fanout_delay_seconds_count": 5,
		`chat_rejects_total{reason="malformed"}`: 1, `chat_resumes_total{outcome="reset"}`: 1,
	} {
		a.waitMetric(name, want)
	}
	if bytes := a.metric("chat_delivered_bytes_total"); bytes < 500 {
		t.Errorf("%v bytes", bytes)
	}
	// What there was before this pod says nothing about its speed.
	if n := startPod(t, env).metric("chat_fanout_delay_seconds_count"); n != 0 {
		t.Errorf("a pod that has just started has measured %v delays", n)
	}
}

// The dashboard, the alerts and the README ask for metrics that the server has, and the alerts are the
// README's queries.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	_, metrics := fetch(t, "GET", startPod(t, nil).admin+"/metrics")
	files := make(map[string]string)
	for _, file := range []string{"README.md", "../k8s/monitoring/alerts.yaml", "../k8s/monitoring/dashboard.json", "../k8s/hpa/hpa.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[file] = string(b)
		names := regexp.MustCompile(`\b(chat|process|go)_[a-z_]+\b`).FindAllString(files[file], -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(metrics) {
				t.Errorf("%s names %s, which the server does not have", file, name)
			}
		}
	}
	_, figures, _ := strings.Cut(files["README.md"], "## What to watch")
	queries := regexp.MustCompile("(?m)^\\| [^|]*\\| `([^`]+)` \\|").FindAllStringSubmatch(figures, -1)
	if len(queries) != 5 {
		t.Errorf("the README has %d queries", len(queries))
	}
	for _, q := range queries {
		if query := strings.Replace(q[1], "max(", "max by (pod) (", 1); !strings.Contains(files["../k8s/monitoring/alerts.yaml"], "expr: "+query+" ") {
			t.Errorf("no alert asks for %s", query)
		}
	}
}

// Nobody finds in a log what people have said, at whatever level.
func TestLogsHaveNoMessages(t *testing.T) {
	t.Parallel()
	const secret = "Tatzelwurm"
	a := startPod(t, map[string]string{"LOG_LEVEL": "debug", "MESSAGE_BYTES": "100"})
	raw, binary, client := a.raw(""), a.raw(""), a.chat("?last=10")
	raw.echo(secret)
	raw.send(strings.Repeat(secret, 20))
	raw.closed()
	binary.ws.WriteMessage(websocket.BinaryMessage, []byte(secret))
	binary.closed()
	client.arrive()
	client.publish(longID("a"), secret)
	for _, nonsense := range []string{
		`{"type":"message","text":"` + secret + `"}`,
		`{"type":"message","id":"` + secret + `","text":"x"}`,
		`{"type":"message","id":7,"text":"` + secret + `"}`,
		`{"type":"message","id":"` + longID("b") + `","text":["` + secret + `"]}`,
		`{"type":"message","id":"` + longID("c") + `","name":"` + strings.Repeat(secret, 9) + `","text":"x"}`,
		`{"type":"message","id":"` + longID("d") + `","text":"` + strings.Repeat(secret, 20) + `"}`,
		`"` + secret + `"`, secret, `{"` + secret, `{"text":"` + secret,
	} {
		client.send(nonsense)
	}
	client.closed()
	a.chat("?last=1").arrive()
	waitFor(t, "the clients to be gone", func() bool { return strings.Count(a.log.String(), "client gone") >= 3 })
	if text := a.log.String(); strings.Contains(text, secret) {
		t.Errorf("the log has what was said:\n%s", text)
	}
	for line := range strings.Lines(a.log.String()) {
		var fields struct{ Level string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Level != "INFO" && fields.Level != "DEBUG" {
			t.Errorf("a client's fault is the operator's business: %s (%v)", line, err)
		}
	}
}

// The students' most common faults: a wrong KAFKA_BROKER, and no line for kafka in the hosts file. The
// pod stays up, and says once what is to be done.
func TestBrokerThatIsNotReached(t *testing.T) {
	t.Parallel()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker("kafka.invalid:9092", 1).SetLeader("chat", 0, 1).SetController(1),
	})
	for brokers, want := range map[string]string{"127.0.0.1:1": "while KAFKA_BROKER is not set, `go run ./chatserver` has one inside", broker.Addr(): "127.0.0.1 kafka.invalid"} {
		a, err := tryPod(t, map[string]string{"KAFKA_BROKER": brokers})
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "what is to be done", func() bool { return strings.Contains(a.log.String(), want) })
		time.Sleep(time.Second) // for other parts of the pod, which have nothing to add
		if text := a.log.String(); strings.Count(text, "WARN") != 1 {
			t.Errorf("not one warning:\n%s", text)
		}
	}
}
