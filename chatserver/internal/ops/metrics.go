// Package ops is what an operator sees of a pod: the log, the greeting and the health checks, and on
// an address of their own Prometheus metrics and Go's profiler.
package ops

import (
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

// Metrics are the metrics that the code updates at each event.
type Metrics struct {
	registry *prometheus.Registry

	PublishSeconds prometheus.Histogram   // from the websocket to the topic and back
	FanOutSeconds  prometheus.Histogram   // from the record's time to the frame log
	Rejects        *prometheus.CounterVec // by reason
	Refused        *prometheus.CounterVec // connections, by reason
	MessagesIn     *prometheus.CounterVec // by protocol
	Reopened       prometheus.Counter     // the consumer
}

// New returns the metrics of a pod, with those of the Go runtime and of the build. The counts that
// the parts of the pod keep themselves are collected at each scrape.
func New(loop *sockets.Loop, topic *history.History, health *Health) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	prefixed := prometheus.WrapRegistererWithPrefix("chat_", registry)
	prefixed.MustRegister(prometheus.CollectorFunc(func(metrics chan<- prometheus.Metric) { collect(metrics, loop, topic, health) }))
	all := promauto.With(prefixed)
	// A vector starts with 0 for each known value of its label, so that the first increase is seen.
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := all.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	// From a fast round trip on one machine to a producer that is given up.
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	return &Metrics{
		registry: registry,
		PublishSeconds: all.NewHistogram(prometheus.HistogramOpts{Name: "publish_seconds", Buckets: buckets,
			Help: "Time from a client's message to its record read back from the topic."}),
		FanOutSeconds: all.NewHistogram(prometheus.HistogramOpts{Name: "fanout_delay_seconds", Buckets: buckets,
			Help: "Time from a record's timestamp, by the clock of the pod that sent it, to its being ready for this pod's clients."}),
		Rejects: vector("rejects_total", "Messages that will not appear, by reason: the event was malformed, Kafka refused the message, or the message ended its connection.",
			"reason", "malformed", "kafka", "binary", "not_utf8", "too_long", "unfinished", "no_room"),
		Refused:    vector("connections_refused_total", "Requests that were refused, by reason.", "reason", "full", "per_address", "origin", "host", "user", "handshake", "stopping"),
		MessagesIn: vector("messages_in_total", "Messages from clients, by protocol.", "protocol", "raw", chat.Protocol),
		Reopened:   all.NewCounter(prometheus.CounterOpts{Name: "consumer_reopened_total", Help: "Times that the consumer was closed and opened again after a fault."}),
	}
}

// collect passes on what the parts count. A name that ends with _total is that of a counter.
func collect(metrics chan<- prometheus.Metric, loop *sockets.Loop, topic *history.History, health *Health) {
	sockets, records := loop.Stats(), topic.Stats()
	log, _ := topic.Frames()
	bytes, messages := log.Size()
	start, end := log.Bounds()
	up := int64(0)
	if health.Why() == nil {
		up = 1
	}
	outcome := func(name string) prometheus.Labels { return prometheus.Labels{"outcome": name} }
	const resumes = "Clients that named a position, by outcome."
	for _, m := range []struct {
		name, help string
		value      int64
		labels     prometheus.Labels
	}{
		{"build_info", "Always 1; the label is the edition of the server.", 1, prometheus.Labels{"edition": Edition()}},
		{"kafka_up", "1 while Kafka can be reached.", up, nil},
		{"connections", "Open websockets.", sockets.Conns, nil},
		{"slow_clients_total", "Times that the socket of a websocket with every message became full.", sockets.BecameSlow, nil},
		{"slow_clients_closed_total", "Websockets closed because the frame log no longer held their next message.", sockets.FellBehind, nil},
		{"stuck_clients_closed_total", "Websockets closed because the client took nothing for 32 s.", sockets.Stuck, nil},
		{"dead_clients_closed_total", "Websockets closed because the client was silent.", sockets.Dead, nil},
		{"deliveries_total", "Messages written to websockets.", sockets.Deliveries, nil},
		{"delivered_bytes_total", "Bytes of messages written to websockets.", sockets.Bytes, nil},
		{"log_bytes", "Memory of the frame log.", int64(bytes), nil},
		{"log_messages", "Messages in the frame log.", int64(messages), nil},
		{"log_start_offset", "Offset of the oldest record that the frame log can show.", start, nil},
		{"log_end_offset", "Offset after the newest record in the frame log.", end, nil},
		{"consumer_lag_records", "Records between what this pod has read and the topic's end.", max(0, records.End-records.Next), nil},
		{"records_total", "Records read from the topic.", records.Records, nil},
		{"copies_dropped_total", "Records left out because one with the same id is in the log.", records.Copies, nil},
		{"placeholders_total", "Records that are not text.", records.Placeholders, nil},
		{"gaps_total", "Times that Kafka had deleted records before this pod read them.", records.Gaps, nil},
		{"resets_total", "Times that the topic was another one than before.", records.Resets, nil},
		{"resumes_total", resumes, records.Resumes["resumed"], outcome("resumed")},
		{"resumes_total", resumes, records.Resumes[chat.Gap], outcome(chat.Gap)},
		{"resumes_total", resumes, records.Resumes[chat.Reset], outcome(chat.Reset)},
	} {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(m.name, "_total") {
			kind = prometheus.CounterValue
		}
		metrics <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, nil, m.labels), kind, float64(m.value))
	}
}

// Since observes the seconds since begun. It observes 0 if begun is in the future: the clock of
// another machine may be ahead.
func Since(h prometheus.Histogram, begun time.Time) { h.Observe(max(0, time.Since(begun).Seconds())) }

// Handler serves /metrics and /debug/pprof/.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/pprof/", http.DefaultServeMux) // net/http/pprof registers itself there, and nothing else does
	return mux
}
