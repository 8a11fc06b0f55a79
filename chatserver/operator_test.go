package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/chat"
)

// A logBuffer keeps what a server logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var metricsAt = regexp.MustCompile(`(http://\S+)/metrics`)

// startLogged runs a server whose log, at the level of env, the test can read, and returns where its
// metrics are.
func startLogged(t *testing.T, env map[string]string) (pod *testPod, log *logBuffer, admin string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log = &logBuffer{}
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, nil, func(name string) string {
			if v, ok := env[name]; ok {
				return v
			}
			return freely[name]
		}, stdout, log)
		stdout.Close()
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		go io.Copy(io.Discard, out)
		if err := <-ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said nothing: %v\n%s", err, log)
	}
	pod = &testPod{t: t, url: openAt.FindStringSubmatch(line)[1]}
	if m := metricsAt.FindStringSubmatch(log.String()); m != nil {
		admin = m[1]
	}
	return pod.waitReady(), log, admin
}

// metric reads one value, 0 if it is not there.
func metric(t *testing.T, admin, name string) float64 {
	t.Helper()
	response, err := http.Get(admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return v
		}
	}
	return 0
}

func TestOperatorsView(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	a, _, admin := startLogged(t, env)
	if !strings.HasPrefix(admin, "http://127.0.0.1:") {
		t.Fatalf("the metrics are at %q", admin)
	}
	raw, chat := a.raw(""), a.chat("?after=0.00000000")
	chat.arrive()
	raw.send("one")
	raw.want("one")
	chat.until("message")
	chat.say(longID("two"), "two")
	for chat.until("ack", "message").ID != longID("two") {
	}
	raw.want("two")
	chat.send("{}")
	chat.until("reject", "message")
	produceRecords(t, env["KAFKA_BROKER"], env["TOPIC"],
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
		waitFor(t, fmt.Sprintf("%s to be %v, not %v", name, want, metric(t, admin, name)), func() bool { return metric(t, admin, name) == want })
	}
	if bytes := metric(t, admin, "chat_delivered_bytes_total"); bytes < 500 {
		t.Errorf("%v bytes", bytes)
	}

	for reason, send := range map[string]func(c *testClient){
		"binary":   func(c *testClient) { c.ws.WriteMessage(websocket.BinaryMessage, []byte("b")) },
		"not_utf8": func(c *testClient) { c.ws.WriteMessage(websocket.TextMessage, []byte("\xff")) },
		"too_long": func(c *testClient) { c.send(strings.Repeat("x", 8<<10+1)) },
	} {
		c := a.raw("")
		send(c)
		c.closed()
		name := fmt.Sprintf("chat_rejects_total{reason=%q}", reason)
		waitFor(t, name+" to be 1", func() bool { return metric(t, admin, name) == 1 })
	}

	// What there was before this pod says nothing about its speed.
	_, _, second := startLogged(t, env)
	if n := metric(t, second, "chat_fanout_delay_seconds_count"); n != 0 {
		t.Errorf("a pod that has just started has measured %v delays", n)
	}
}

// Nobody finds in a log what people have said, at whatever level.
func TestLogsHaveNoMessages(t *testing.T) {
	t.Parallel()
	const secret = "Tatzelwurm"
	a, log, _ := startLogged(t, map[string]string{"LOG_LEVEL": "debug", "MESSAGE_BYTES": "100"})
	raw := a.raw("")
	raw.send(secret)
	raw.want(secret)
	raw.send(strings.Repeat(secret, 20))
	raw.closed()
	binary := a.raw("")
	if err := binary.ws.WriteMessage(websocket.BinaryMessage, []byte(secret)); err != nil {
		t.Fatal(err)
	}
	binary.closed()
	client := a.chat("?last=10")
	client.arrive()
	client.say(longID("a"), secret)
	client.until("ack", "message")
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
	a.dial("/ws?last=1", chat.Protocol).arrive()
	waitFor(t, "the clients to be gone", func() bool { return strings.Count(log.String(), "client gone") >= 3 })
	if text := log.String(); strings.Contains(text, secret) {
		t.Errorf("the log has what was said:\n%s", text)
	}
	for line := range strings.Lines(log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if level := fields["level"]; level != "INFO" && level != "DEBUG" {
			t.Errorf("a client's fault is the operator's business: %s", line)
		}
		if msg := fields["msg"].(string); strings.ContainsAny(msg, "0123456789%") {
			t.Errorf("not a constant message: %q", msg)
		}
	}
}

// The students' most common fault: no line for kafka in the hosts file. The pod stays up and says what
// is to be done.
func TestBrokerWhoseNameNobodyKnows(t *testing.T) {
	t.Parallel()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker("kafka.invalid:9092", 1).SetLeader("chat", 0, 1).SetController(1),
	})
	env := map[string]string{"KAFKA_BROKER": broker.Addr(), "PORT": "0", "ADMIN_ADDR": "127.0.0.1:0"}
	ctx, cancel := context.WithCancel(context.Background())
	log, ended := &logBuffer{}, make(chan error, 1)
	go func() { ended <- run(ctx, nil, func(name string) string { return env[name] }, io.Discard, log) }()
	waitFor(t, "the line for the hosts file", func() bool {
		return strings.Contains(log.String(), "advertises itself as kafka.invalid:9092") && strings.Contains(log.String(), "127.0.0.1 kafka.invalid")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
