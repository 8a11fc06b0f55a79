package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafkatest"
)

// Which addresses there are; none says what the server runs on, and all are only for its own names.
func TestAddresses(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"POD_NAME": "pod <1>", "MAX_CONNECTIONS": "1"})
	for request, want := range map[string]string{
		"GET /": "200 .*pod &lt;1&gt;.*", "HEAD /": "200 ", "GET /page.js": "200 .+", "GET /healthz": "200 ok\n", "GET /readyz": "200 ok\n",
		"GET /ws": "400 .*websocket.*", "GET /ws?last=x": "400 .*last.*", "POST /ws": "405 .*", "OPTIONS /nothing": "204 ",
		"GET /metrics": "404 .*", "GET /debug/pprof/": "404 .*", "GET /.git/config": "404 .*", "GET /page.go": "404 .*",
	} {
		method, path, _ := strings.Cut(request, " ")
		status, body := fetch(t, method, a.url+path)
		answer := fmt.Sprint(status, " ", body)
		if !regexp.MustCompile("(?s)^"+want+"$").MatchString(answer) || strings.Contains(body, "go1.") {
			t.Errorf("%s: %.200q, want %s", request, answer, want)
		}
	}
	for _, url := range []string{a.url + "/", a.url + "/ws", a.admin + "/metrics", a.admin + "/debug/pprof/heap"} {
		if status, _ := fetch(t, "GET", url, "evil.example"); status != 403 {
			t.Errorf("%s by another name: %d", url, status)
		}
	}
	a.waitMetric(`chat_connections_refused_total{reason="host"}`, 4)
	a.raw("")
	if _, response, err := a.tryDial("", ""); err == nil || response == nil || response.StatusCode != 503 {
		t.Errorf("one client too many: %v, %+v", err, response)
	}
}

// What happens is counted. Nobody finds in a log what people have said, at whatever level.
func TestOperatorsView(t *testing.T) {
	t.Parallel()
	const secret = "Tatzelwurm"
	env := onKafka(t)("a")
	env["LOG_LEVEL"], env["MESSAGE_BYTES"] = "debug", "100"
	a := startPod(t, env)
	raw, client := a.raw(""), a.chat("?after=0.00000000")
	client.arrive()
	raw.echo(secret)
	client.publish(longID("two"), secret)
	kafkatest.ProduceRecords(t, env["KAFKA_BROKER"], env["TOPIC"],
		&sarama.ProducerMessage{Value: sarama.StringEncoder("\xff")},
		&sarama.ProducerMessage{Headers: []sarama.RecordHeader{{Key: []byte("id"), Value: []byte(longID("two"))}}},
		&sarama.ProducerMessage{Value: sarama.StringEncoder("last")})
	a.waitMetric("chat_deliveries_total", 8)
	for _, nonsense := range []string{ // ten, after which a client is closed
		`{"id":"SECRET","text":"x"}`, `{"id":7,"text":"SECRET"}`, `{"id":"long enough to be one","text":["SECRET"]}`,
		`{"id":"long enough to be one","name":"` + strings.Repeat("SECRET", 9) + `","text":"x"}`,
		`{"id":"long enough to be one","text":"` + strings.Repeat("SECRET", 20) + `"}`,
		`{"text":"SECRET"}`, `"SECRET"`, `SECRET`, `{"SECRET`, `{"text":"SECRET`,
	} {
		client.send(strings.NewReplacer("SECRET", secret, `{"id"`, `{"type":"message","id"`).Replace(nonsense))
	}
	client.closed()
	for _, frame := range []string{ // masked with zeros
		"\x81\xfe\x00\xc8\x00\x00\x00\x00" + strings.Repeat(secret, 20), // too long
		"\x81\x8b\x00\x00\x00\x00\xff" + secret,                         // not UTF-8
		"\x82\x8a\x00\x00\x00\x00" + secret,                             // binary
	} {
		rude := a.raw("")
		rude.ws.NetConn().Write([]byte(frame))
		rude.closed()
	}
	for name, want := range map[string]float64{
		"chat_connections": 1, "chat_kafka_up": 1, "chat_consumer_lag_records": 0,
		`chat_messages_in_total{protocol="raw"}`: 1, `chat_messages_in_total{protocol="chat.v1"}`: 1,
		"chat_records_total": 5, "chat_placeholders_total": 1, "chat_copies_dropped_total": 1,
		"chat_log_messages": 4, "chat_log_end_offset": 5, "chat_log_start_offset": 0,
		"chat_publish_seconds_count": 2, "chat_fanout_delay_seconds_count": 5, `chat_resumes_total{outcome="reset"}`: 1,
		`chat_rejects_total{reason="malformed"}`: 10, `chat_rejects_total{reason="too_long"}`: 1,
		`chat_rejects_total{reason="not_utf8"}`: 1, `chat_rejects_total{reason="binary"}`: 1,
	} {
		a.waitMetric(name, want)
	}
	waitFor(t, "the bytes of the deliveries", func() bool { return a.metric("chat_delivered_bytes_total") >= 500 })
	waitFor(t, "the clients to be gone", func() bool { return strings.Count(a.log.String(), "client gone") >= 4 })
	if found := regexp.MustCompile(".*(" + secret + `|"level":"(WARN","msg":"client|ERROR)).*`).FindString(a.log.String()); found != "" {
		t.Errorf("the log says what was said, or a client's fault is the operator's business: %s", found)
	}
	// What there was before this pod says nothing about its speed.
	if n := startPod(t, env).metric("chat_fanout_delay_seconds_count"); n != 0 {
		t.Errorf("a pod that has just started has measured %v delays", n)
	}
}

// The dashboard, the alerts and the README ask for metrics that the server has, and the alerts are the README's queries.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	_, metrics := fetch(t, "GET", startPod(t, nil).admin+"/metrics")
	read := func(file string) string {
		text := readFile(t, file)
		for _, name := range regexp.MustCompile(`\b(chat|process|go)_[a-z_]+\b`).FindAllString(text, -1) {
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(metrics) {
				t.Errorf("%s names %s, which the server does not have", file, name)
			}
		}
		return text
	}
	read("../k8s/monitoring/dashboard.json")
	read("../k8s/hpa/hpa.yaml")
	alerts := read("../k8s/monitoring/alerts.yaml")
	_, figures, _ := strings.Cut(read("README.md"), "## What to watch")
	queries := regexp.MustCompile("(?m)^\\| [^|]*\\| `([^`]+)` \\|").FindAllStringSubmatch(figures, -1)
	if len(queries) != 5 {
		t.Errorf("the README has %d queries", len(queries))
	}
	for _, q := range queries {
		if query := strings.Replace(q[1], "max(", "max by (pod) (", 1); !strings.Contains(alerts, "expr: "+query+" ") {
			t.Errorf("no alert asks for %s", query)
		}
	}
}
