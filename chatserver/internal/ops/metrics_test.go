package ops

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/sockets"
)

// Everything that an operator looks at is there from the start, also what has not happened yet, under names that follow the
// conventions; and so is the profiler.
func TestMetrics(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	topic := history.New(history.Config{ClientID: func(string) string { return "" }, Limit: 1 << 20, Report: func(string, error) {}, Log: log})
	frames, _ := topic.Frames()
	m := New(sockets.NewLoop(frames), topic, NewHealth(log, nil))
	get := func(path string, status int) string {
		w := httptest.NewRecorder()
		if m.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil)); w.Code != status || w.Body.Len() == 0 {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	get("/debug/pprof/", 200)
	get("/debug/pprof/heap?gc=1", 200)
	get("/", 404)
	body := get("/metrics", 200)
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
	check := func(want string) {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
	for _, name := range wanted {
		check(name + " 0\n")
	}
	for _, name := range []string{"chat_kafka_up 1\n", "chat_build_info{edition=", "go_build_info{", "go_goroutines ", "process_open_fds "} {
		check(name)
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
	Since(m.PublishSeconds, time.Now().Add(-2*time.Second))
	Since(m.FanOutSeconds, time.Now().Add(time.Hour)) // a record of a pod whose clock is ahead
	body = get("/metrics", 200)
	check(`chat_publish_seconds_bucket{le="1"} 0` + "\n")
	check(`chat_publish_seconds_bucket{le="30"} 1` + "\n") // the test may stand still for a while
	check("chat_fanout_delay_seconds_sum 0\n")
	check("chat_fanout_delay_seconds_count 1\n")
}
