// Package ops is what an operator sees of a pod: Prometheus metrics, and Go's profiler, on an
// address of their own.
package ops

import (
	"fmt"
	"net/http"
	_ "net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/sockets"
)

// Metrics are those that are counted where things happen.
type Metrics struct {
	registry *prometheus.Registry

	PublishSeconds prometheus.Histogram   // from the websocket to the topic and back
	FanOutSeconds  prometheus.Histogram   // from the record's time to the frame log
	Rejects        *prometheus.CounterVec // by reason
	Refused        *prometheus.CounterVec // connections, by reason
	MessagesIn     *prometheus.CounterVec // by protocol
	Reopened       prometheus.Counter     // the consumer
}

// New returns the metrics of a pod, with those of the Go runtime and of the build. What the parts of the pod count
// themselves they are asked for when somebody asks for the metrics.
func New(loop *sockets.Loop, topic *history.History, health *Health) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	prefixed := prometheus.WrapRegistererWithPrefix("chat_", m.registry)
	all := promauto.With(prefixed)
	// A vector is there with 0 for the known values of its label, so that an increase from nothing is seen.
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := all.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	// From a fast round trip on one machine to a producer that is given up.
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m.PublishSeconds = all.NewHistogram(prometheus.HistogramOpts{Name: "publish_seconds", Buckets: buckets,
		Help: "Time from a client's message to its record read back from the topic."})
	m.FanOutSeconds = all.NewHistogram(prometheus.HistogramOpts{Name: "fanout_delay_seconds", Buckets: buckets,
		Help: "Time from a record's timestamp, by the clock of the pod that sent it, to its being ready for this pod's clients."})
	m.Rejects = vector("rejects_total", "Messages that will not appear, by reason: the client's event made no sense, Kafka refused it, or it ended its connection.",
		"reason", "malformed", "kafka", "binary", "not_utf8", "too_long", "unfinished", "no_room")
	m.Refused = vector("connections_refused_total", "Clients that were not let in, by reason.", "reason", "full", "per_address", "origin", "host", "user", "handshake", "stopping")
	m.MessagesIn = vector("messages_in_total", "Messages from clients, by protocol.", "protocol", "raw", chat.Protocol)
	m.Reopened = all.NewCounter(prometheus.CounterOpts{Name: "consumer_reopened_total", Help: "Times that the consumer was closed and opened again after a fault."})
	all.NewGauge(prometheus.GaugeOpts{Name: "build_info", Help: "1, with the edition of the server that runs.",
		ConstLabels: prometheus.Labels{"edition": Edition()}}).Set(1)
	prefixed.MustRegister(prometheus.CollectorFunc(func(metrics chan<- prometheus.Metric) {
		collect(metrics, loop.Stats(), topic, health)
	}))
	return m
}

// collect passes on what the parts count. A name that ends with _total is that of a counter.
func collect(metrics chan<- prometheus.Metric, s sockets.Stats, topic *history.History, health *Health) {
	send := func(name, help string, labels prometheus.Labels, value int64) {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		metrics <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, labels), kind, float64(value))
	}
	t := topic.Stats()
	log, _ := topic.Frames()
	bytes, messages := log.Size()
	start, end := log.Bounds()
	up := int64(0)
	if health.Why() == nil {
		up = 1
	}
	for _, m := range []struct {
		name, help string
		value      int64
	}{
		{"connections", "Open websockets.", s.Conns},
		{"slow_clients", "Websockets that do not keep up: they had every message before, and their sockets are full.", s.Slow},
		{"consumer_lag_records", "Records between what this pod has read and the topic's end.", max(0, t.End-t.Next)},
		{"log_bytes", "Memory of the frame log.", int64(bytes)},
		{"log_messages", "Messages in the frame log.", int64(messages)},
		{"log_start_offset", "Offset of the oldest record that the frame log can show.", start},
		{"log_end_offset", "Offset after the newest record in the frame log.", end},
		{"kafka_up", "1 while Kafka can be reached.", up},
		{"deliveries_total", "Messages written to websockets.", s.Deliveries},
		{"delivered_bytes_total", "Bytes of messages written to websockets.", s.Bytes},
		{"slow_clients_total", "Times that a websocket which had every message did not keep up.", s.BecameSlow},
		{"slow_clients_closed_total", "Websockets closed because the frame log no longer held their next message.", s.FellBehind},
		{"stuck_clients_closed_total", "Websockets closed because the client took nothing for 32 s.", s.Stuck},
		{"dead_clients_closed_total", "Websockets closed because the client was silent.", s.Dead},
		{"records_total", "Records read from the topic.", t.Records},
		{"copies_dropped_total", "Records left out because one with the same id is in the log.", t.Copies},
		{"placeholders_total", "Records that are not text.", t.Placeholders},
		{"gaps_total", "Times that the topic had let go of records before this pod read them.", t.Gaps},
		{"resets_total", "Times that the topic turned out to be another one.", t.Resets},
	} {
		send(m.name, m.help, nil, m.value)
	}
	for _, outcome := range []string{"resumed", "gap", "reset"} {
		send("resumes_total", "Clients that named a position, by what followed.", prometheus.Labels{"outcome": outcome}, t.Resumes[outcome])
	}
}

// Since observes the time since begun, in seconds; none if another machine's clock, by which it was
// taken, is ahead.
func Since(h prometheus.Histogram, begun time.Time) { h.Observe(max(0, time.Since(begun).Seconds())) }

// Check answers whether a pod is well: with 200, or with 503 and the first reason why it is not.
func Check(reasons ...func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, why := range reasons {
			if err := why(); err != nil {
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}

// Handler serves /metrics and /debug/pprof/.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/pprof/", http.DefaultServeMux) // where net/http/pprof has put itself, and nothing else is
	return mux
}
