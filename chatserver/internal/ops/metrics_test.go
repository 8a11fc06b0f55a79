package ops_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
)

// start returns the metrics of a pod of which nothing runs, and what asks its address for something.
func start(t *testing.T) (m *ops.Metrics, get func(path string) (status int, body string)) {
	topic := history.New(history.Config{
		ClientID: func(string) string { return "" }, Limit: 1 << 20, Report: func(string, error) {}, Log: slog.New(slog.DiscardHandler),
	})
	frames, _ := topic.Frames()
	h := ops.NewHealth(slog.New(slog.DiscardHandler), func(error) {}, "consumer")
	h.Report("consumer", nil)
	m = ops.New(sockets.NewLoop(frames), topic, h)
	return m, func(path string) (status int, body string) {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
}

// Everything that an operator looks at is there from the start, also what has not happened yet, under names that follow the
// conventions; and so is the profiler.
func TestAllMetricsAreThereFromTheStart(t *testing.T) {
	t.Parallel()
	_, get := start(t)
	for path, status := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/heap?gc=1": 200, "/": 404} {
		if code, body := get(path); code != status || body == "" {
			t.Errorf("%s: %d", path, code)
		}
	}
	_, body := get("/metrics")
	wanted := strings.Fields("chat_connections chat_consumer_lag_records " +
		"chat_log_bytes chat_log_messages chat_log_start_offset chat_log_end_offset chat_deliveries_total chat_delivered_bytes_total " +
		"chat_slow_clients_total chat_stuck_clients_closed_total chat_slow_clients_closed_total chat_dead_clients_closed_total " +
		"chat_records_total chat_copies_dropped_total chat_placeholders_total chat_gaps_total chat_resets_total chat_consumer_reopened_total " +
		"chat_publish_seconds_count chat_fanout_delay_seconds_count")
	for vector, values := range map[string]string{
		"chat_messages_in_total{protocol=":       "raw chat.v1",
		"chat_resumes_total{outcome=":            "resumed gap reset",
		"chat_rejects_total{reason=":             "malformed kafka binary not_utf8 too_long unfinished no_room",
		"chat_connections_refused_total{reason=": "full per_address origin host user handshake stopping",
		"chat_publish_seconds_bucket{le=":        "0.0005 0.001 1 30 +Inf",
		"chat_fanout_delay_seconds_bucket{le=":   "0.0005 0.001 1 30 +Inf",
	} {
		for value := range strings.FieldsSeq(values) {
			wanted = append(wanted, vector+`"`+value+`"}`)
		}
	}
	for i := range wanted {
		wanted[i] += " 0\n"
	}
	wanted = append(wanted, "chat_kafka_up 1\n", "chat_build_info{edition=", "go_build_info{", "go_goroutines ", "go_memstats_heap_inuse_bytes ", "process_start_time_seconds ")
	for _, want := range wanted {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
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

func TestSince(t *testing.T) {
	t.Parallel()
	m, get := start(t)
	ops.Since(m.PublishSeconds, time.Now().Add(-2*time.Second))
	ops.Since(m.FanOutSeconds, time.Now().Add(time.Hour)) // a record of a pod whose clock is ahead
	_, body := get("/metrics")
	for _, want := range []string{
		`chat_publish_seconds_bucket{le="1"} 0`, `chat_publish_seconds_bucket{le="5"} 1`,
		"chat_fanout_delay_seconds_sum 0\n", "chat_fanout_delay_seconds_count 1",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
}
