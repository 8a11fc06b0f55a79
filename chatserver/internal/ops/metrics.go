// Package ops is what an operator sees of a pod: Prometheus metrics, and Go's profiler, on an
// address of their own.
package ops

import (
	"fmt"
	"net/http"
	_ "net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
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
	all := promauto.With(prometheus.WrapRegistererWithPrefix("chat_", m.registry))
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
	register(all, loop, topic, health)
	return m
}

// register registers what the parts count.
func register(all promauto.Factory, loop *sockets.Loop, topic *history.History, health *Health) {
	gauge := func(name, help string, read func() float64) {
		all.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	counter := func(name, help string, read func() float64) {
		all.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read)
	}
	conns := func(of func(sockets.Stats) int64) func() float64 {
		return func() float64 { return float64(of(loop.Stats())) }
	}
	records := func(of func(history.Stats) int64) func() float64 {
		return func() float64 { return float64(of(topic.Stats())) }
	}
	log := func(of func(*framelog.Log) int64) func() float64 {
		return func() float64 {
			frames, _ := topic.Frames()
			return float64(of(frames))
		}
	}
	gauge("connections", "Open websockets.", conns(func(s sockets.Stats) int64 { return s.Conns }))
	gauge("slow_clients", "Websockets that do not keep up: they had every message before, and their sockets are full.", conns(func(s sockets.Stats) int64 { return s.Slow }))
	gauge("consumer_lag_records", "Records between what this pod has read and the topic's end.", records(func(s history.Stats) int64 { return max(0, s.End-s.Next) }))
	gauge("log_bytes", "Memory of the frame log.", log(func(l *framelog.Log) int64 { b, _ := l.Size(); return int64(b) }))
	gauge("log_messages", "Messages in the frame log.", log(func(l *framelog.Log) int64 { _, n := l.Size(); return int64(n) }))
	gauge("log_start_offset", "Offset of the oldest record that the frame log can show.", log(func(l *framelog.Log) int64 { start, _ := l.Bounds(); return start }))
	gauge("log_end_offset", "Offset after the newest record in the frame log.", log(func(l *framelog.Log) int64 { _, end := l.Bounds(); return end }))
	gauge("kafka_up", "1 while Kafka can be reached.", func() float64 {
		if health.Why() == nil {
			return 1
		}
		return 0
	})
	counter("deliveries_total", "Messages written to websockets.", conns(func(s sockets.Stats) int64 { return s.Deliveries }))
	counter("delivered_bytes_total", "Bytes of messages written to websockets.", conns(func(s sockets.Stats) int64 { return s.Bytes }))
	counter("slow_clients_total", "Times that a websocket which had every message did not keep up.", conns(func(s sockets.Stats) int64 { return s.BecameSlow }))
	counter("slow_clients_closed_total", "Websockets closed because the frame log no longer held their next message.", conns(func(s sockets.Stats) int64 { return s.FellBehind }))
	counter("stuck_clients_closed_total", "Websockets closed because the client took nothing for 32 s.", conns(func(s sockets.Stats) int64 { return s.Stuck }))
	counter("dead_clients_closed_total", "Websockets closed because the client was silent.", conns(func(s sockets.Stats) int64 { return s.Dead }))
	counter("records_total", "Records read from the topic.", records(func(s history.Stats) int64 { return s.Records }))
	counter("copies_dropped_total", "Records left out because one with the same id is in the log.", records(func(s history.Stats) int64 { return s.Copies }))
	counter("placeholders_total", "Records that are not text.", records(func(s history.Stats) int64 { return s.Placeholders }))
	counter("gaps_total", "Times that the topic had let go of records before this pod read them.", records(func(s history.Stats) int64 { return s.Gaps }))
	for _, outcome := range []string{"resumed", "gap", "reset"} {
		all.NewCounterFunc(prometheus.CounterOpts{Name: "resumes_total", Help: "Clients that named a position, by what followed.",
			ConstLabels: prometheus.Labels{"outcome": outcome}}, records(func(s history.Stats) int64 { return s.Resumes[outcome] }))
	}
	counter("resets_total", "Times that the topic turned out to be another one.", records(func(s history.Stats) int64 { return s.Resets }))
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
