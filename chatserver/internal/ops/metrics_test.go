package ops_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
)

// parts returns a pod's parts, of which nothing runs.
func parts() (ops.Parts, *history.History) {
	t := history.New(history.Config{
		ClientID: func(string) string { return "" }, Limit: 1 << 20, Report: func(string, error) {}, Log: slog.New(slog.DiscardHandler),
	})
	frames, _ := t.Frames()
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(error) {}, "consumer")
	h.Report("consumer", nil)
	return ops.Parts{Conns: sockets.NewLoop(frames), History: t, Health: h}, t
}

func get(t *testing.T, m *ops.Metrics, path string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

// Everything that the README tells an operator to look at is there from the start, also what has not
// happened yet.
func TestAllMetricsAreThereFromTheStart(t *testing.T) {
	t.Parallel()
	p, _ := parts()
	_, body := get(t, ops.New(p), "/metrics")
	for _, want := range []string{
		"chat_connections 0", "chat_slow_clients 0", "chat_consumer_lag_records 0", "chat_kafka_up 1",
		"chat_log_bytes 0", "chat_log_messages 0", "chat_log_start_offset 0", "chat_log_end_offset 0",
		"chat_deliveries_total 0", "chat_delivered_bytes_total 0",
		"chat_slow_clients_total 0", "chat_stuck_clients_closed_total 0", "chat_slow_clients_closed_total 0", "chat_dead_clients_closed_total 0",
		"chat_records_total 0", "chat_copies_dropped_total 0", "chat_placeholders_total 0",
		"chat_gaps_total 0", "chat_resets_total 0", "chat_consumer_reopened_total 0",
		`chat_messages_in_total{protocol="raw"} 0`, `chat_messages_in_total{protocol="chat.v1"} 0`,
		`chat_resumes_total{outcome="resumed"} 0`, `chat_resumes_total{outcome="gap"} 0`, `chat_resumes_total{outcome="reset"} 0`,
		`chat_rejects_total{reason="malformed"} 0`, `chat_rejects_total{reason="kafka"} 0`,
		`chat_rejects_total{reason="binary"} 0`, `chat_rejects_total{reason="not_utf8"} 0`, `chat_rejects_total{reason="too_long"} 0`, `chat_rejects_total{reason="unfinished"} 0`, `chat_rejects_total{reason="no_room"} 0`,
		`chat_connections_refused_total{reason="full"} 0`, `chat_connections_refused_total{reason="origin"} 0`,
		`chat_connections_refused_total{reason="per_address"} 0`, `chat_connections_refused_total{reason="handshake"} 0`,
		`chat_connections_refused_total{reason="host"} 0`, `chat_connections_refused_total{reason="user"} 0`, "chat_build_info{edition=",
		"chat_publish_seconds_count 0", "chat_fanout_delay_seconds_count 0",
		"go_build_info{", "go_goroutines ", "go_memstats_heap_inuse_bytes ", "process_start_time_seconds ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	p, _ := parts()
	_, body := get(t, ops.New(p), "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "chat_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	p, topic := parts()
	m := ops.New(p)
	topic.Open(5, 7)
	for _, r := range []*sarama.ConsumerMessage{
		{Offset: 5, Value: []byte("text")},
		{Offset: 6, Value: []byte("\xff")},
		{Offset: 7, Value: []byte("a"), Headers: []*sarama.RecordHeader{{Key: []byte("id"), Value: []byte("0123456789abcdef")}}},
		{Offset: 9, Value: []byte("a"), Headers: []*sarama.RecordHeader{{Key: []byte("id"), Value: []byte("0123456789abcdef")}}},
	} {
		if _, err := topic.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	frames, _ := topic.Frames()
	if place, _, err := topic.Place(url.Values{"after": {"6.00000000"}}, func() chat.Welcome { return chat.Welcome{} }); err != nil {
		t.Fatal(err)
	} else if _, placed := place(frames); !placed {
		t.Fatal("no place")
	}
	ops.Since(m.PublishSeconds, time.Now().Add(-2*time.Second))
	ops.Since(m.FanOutSeconds, time.Now().Add(time.Hour)) // a record of a pod whose clock is ahead
	_, body := get(t, m, "/metrics")
	for _, want := range []string{
		"chat_records_total 4", "chat_placeholders_total 1", "chat_copies_dropped_total 1",
		"chat_log_messages 3", "chat_log_start_offset 5", "chat_log_end_offset 8",
		`chat_resumes_total{outcome="reset"} 1`,
		`chat_publish_seconds_bucket{le="1"} 0`, `chat_publish_seconds_bucket{le="5"} 1`,
		"chat_fanout_delay_seconds_sum 0\n", "chat_fanout_delay_seconds_count 1",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
}

func TestProfiler(t *testing.T) {
	t.Parallel()
	p, _ := parts()
	m := ops.New(p)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap?gc=1", "/debug/pprof/cmdline"} {
		if status, body := get(t, m, path); status != http.StatusOK || body == "" {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get(t, m, "/"); status != http.StatusNotFound {
		t.Errorf("/: %d", status)
	}
}
