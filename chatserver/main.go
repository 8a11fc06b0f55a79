// Command chatserver is a chat in the browser that scales: each message goes to a Kafka topic,
// and every copy of the server, called a pod, reads the topic and passes it on to its clients.
//
//	browser ──text──▶ handleWSConnections ──SendMessage──▶ Kafka topic, partition 0     the log of the chat
//	                                                             │  one PartitionConsumer a pod
//	browser ◀──bytes── wsconn.Loop ◀── position ── frame log ◀── handleMessages         the log of a pod
//
// Kafka orders the chat. A pod keeps the newest part of it in memory as ready-made websocket
// frames, the same bytes for all clients. A client is only a position in them: nothing is queued
// for it, and when it comes back, to any pod, it says after which message to go on.
//
//	go run ./chatserver                                            with a broker inside: a chat on its own
//	PORT=8001 KAFKA_BROKER=localhost:9092 go run ./chatserver      a second pod of the same chat
//
// Environment: the packages config and internal/kafka list the variables; the README explains them.
//
//	GET /         the page
//	GET /ws       the websocket: raw text both ways, or the subprotocol chat.v1
//	GET /healthz  200 while the process lives
//	GET /readyz   200 when clients may come: the topic has been read, and the server is not stopping
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
	"github.com/rcrowley/go-metrics"

	"kafkachat/chatserver/internal/config"
	"kafkachat/chatserver/internal/page"
	"kafkachat/chatserver/internal/probe"
	"kafkachat/chatserver/internal/publish"
	"kafkachat/chatserver/internal/record"
	"kafkachat/chatserver/internal/resume"
	"kafkachat/chatserver/internal/tail"
	"kafkachat/chatserver/internal/wsconn"
	"kafkachat/internal/broker"
)

func main() {
	metrics.UseNilMetrics = true // sarama's own counters: nobody reads them, and each costs a goroutine
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chatserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and returns when everything that it started has ended.
func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := config.Load(getenv)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.LogLevel})).With("pod", cfg.Pod)
	cfg.Cluster.Warn = func(err error) { log.Warn("cannot use a Kafka broker", "err", err) }

	ln, err := net.Listen("tcp", ":"+strconv.Itoa(cfg.Port))
	if err != nil {
		return fmt.Errorf("PORT=%d cannot be used, choose another: %w", cfg.Port, err)
	}
	defer ln.Close()
	if cfg.Embedded {
		b, err := broker.Start(broker.Config{Addr: cfg.EmbeddedAddr, DataDir: cfg.DataDir, Topic: cfg.Topic, Log: log})
		if err != nil {
			return err
		}
		defer b.Close()
		cfg.Cluster.Brokers = []string{b.Addr()}
		log.Info("started the embedded broker: good for trying out and for lessons, not for production", "addr", b.Addr())
	}
	p, err := newPod(cfg, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Chatting on %s: open http://localhost:%d\n", cfg.Pod, ln.Addr().(*net.TCPAddr).Port)
	return p.serve(ctx, ln)
}

// A pod is one running chat server.
type pod struct {
	// Static after newPod.
	cfg       *config.Config
	log       *slog.Logger
	page      *page.Page
	upgrader  websocket.Upgrader
	tail      *tail.Tail         // the topic, as this pod has read it
	conns     *wsconn.Loop       // writes the tail to the clients
	publisher *publish.Publisher // brings their messages into the topic
	probe     *probe.Probe       // knows where the topic ends
	started   time.Time

	partitions atomic.Int32 // of the topic; 0 until it is known

	stalledAt int64 // owned by handleMessages: the topic's end when the consumer was last found stalled

	mu       sync.Mutex      // guards the following
	stopping bool            // no more clients
	readers  sync.WaitGroup  // the goroutines of readMessages; none is added once it is stopping
	health   map[string]bool // of each part that talks to Kafka
	kafka    string          // record.Up or record.Down: what clients have been told
}

// statusNotice is the only kind of notice so far: whether Kafka can be reached.
const statusNotice wsconn.Notice = 0

func newPod(cfg *config.Config, log *slog.Logger) (*pod, error) {
	p := &pod{cfg: cfg, log: log, started: time.Now(), kafka: record.Down, health: map[string]bool{"consumer": false, "probe": false}}
	var err error
	if p.page, err = page.New(cfg.Pod); err != nil {
		return nil, err
	}
	p.tail = tail.New(cfg.LogBytes)
	frames, _ := p.tail.Log()
	p.conns = wsconn.NewLoop(frames)
	p.probe = probe.New(cfg.Cluster, p.clientID("probe"), cfg.Topic, func(up bool) {
		p.setHealth("probe", up)
		p.conns.Wake() // for those whose place depends on the answer
	})
	p.publisher = publish.New(cfg.Cluster, p.clientID("producer"), p.tail, p.probe.End, func(up bool) { p.setHealth("producer", up) }, log)
	p.upgrader = websocket.Upgrader{
		Subprotocols: []string{record.Protocol},
		// Small, since most connections are idle; a longer message is read into a shared buffer.
		ReadBufferSize:   512,
		WriteBufferPool:  &sync.Pool{}, // only for the handshake's answer
		HandshakeTimeout: 10 * time.Second,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, reason.Error()+" (this address is the chat's websocket; the page is at /)", status)
		},
	}
	return p, nil
}

// serve runs the pod's parts until ctx ends, sends the clients away, and stops the parts in the
// order that lets what is under way arrive: clients, then consumer and producer.
func (p *pod) serve(ctx context.Context, ln net.Listener) error {
	life, end := context.WithCancel(context.Background())
	defer end()
	var parts sync.WaitGroup
	parts.Go(func() { p.conns.Run(life) })
	parts.Go(func() { p.probe.Run(life) })
	parts.Go(func() { p.publisher.Run(life) })
	parts.Go(func() { p.handleMessages(life) })

	server := &http.Server{
		Handler:           p.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       650 * time.Second, // longer than a load balancer keeps its connections, 600 s
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	parts.Go(func() { failed <- server.Serve(ln) })

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serving on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	p.refuseClients()
	p.drain()
	server.Close()
	end()
	p.readers.Wait()
	parts.Wait()
	return err
}

// drain sends the clients away, evenly spread, so that the other pods are not stormed.
func (p *pod) drain() {
	n := time.Duration(p.conns.Stats().Conns)
	window := min(n*drainPerClient, p.cfg.DrainTimeout*3/4)
	if n >= 10 {
		window = max(window, min(drainAtLeast, p.cfg.DrainTimeout*3/4))
	}
	p.log.Info("stopping", "clients", int(n), "within", window)
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.DrainTimeout*7/8)
	defer cancel()
	farewell := record.Event("reconnect", struct {
		Within int64 `json:"within_ms"`
	}{reconnectWithin.Milliseconds()})
	p.conns.Drain(ctx, window, farewell, wsconn.CloseServiceRestart, "the server is restarting, please reconnect")
	for deadline := time.Now().Add(drainGrace); p.conns.Stats().Conns > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

const (
	drainPerClient = 5 * time.Millisecond
	// drainAtLeast keeps a tenth of a second below a tenth of the clients, if there are more than a few.
	drainAtLeast    = 1200 * time.Millisecond
	drainGrace      = 1500 * time.Millisecond // for the last close frames to be answered
	reconnectWithin = 500 * time.Millisecond  // the spread is in the closing already
)

// admit counts a client's reader, unless the pod is stopping.
func (p *pod) admit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.readers.Add(1)
	}
	return !p.stopping
}

func (p *pod) refuseClients() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
}

func (p *pod) ready() bool {
	_, loaded := p.tail.Log()
	p.mu.Lock()
	defer p.mu.Unlock()
	return loaded && !p.stopping
}

func (p *pod) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.page)
	mux.HandleFunc("GET /ws", p.handleWSConnections)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !p.ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// handleWSConnections makes a websocket of the request. Its messages are read by readMessages in
// a goroutine of their own; this one returns, which frees the memory that an HTTP request holds.
func (p *pod) handleWSConnections(w http.ResponseWriter, r *http.Request) {
	request, err := resume.Parse(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !p.admit() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the server is stopping", http.StatusServiceUnavailable)
		return
	}
	conn, err := p.conns.Upgrade(w, r, &p.upgrader, func(protocol string) wsconn.Options {
		if protocol == record.Protocol {
			return wsconn.Options{Track: tail.ChatV1, Notices: true, Limit: maxEvent}
		}
		return wsconn.Options{Track: tail.Raw, Limit: record.MaxText}
	})
	if err != nil {
		p.readers.Done()
		p.log.Debug("no websocket", "remote", r.RemoteAddr, "err", err)
		return
	}
	source := resume.Source{Tail: p.tail, Probe: p.probe, Welcome: p.welcome}
	if conn.Subprotocol() == record.Protocol {
		conn.Start(source.Chat(request))
		strikes := 0
		go p.readMessages(conn, func(conn *wsconn.Conn, event []byte) error { return p.takeEvent(conn, event, &strikes) })
	} else {
		conn.Start(source.Raw(request))
		go p.readMessages(conn, p.takeText)
	}
}

const maxStrikes = 10

// maxEvent is the longest chat.v1 event in bytes: each byte of the text may be escaped with six.
const maxEvent = 6*record.MaxText + 1024

// readMessages takes the client's messages one after another: the next is read when the one
// before has come back from Kafka, so they keep their order, and a client cannot be faster than
// the chat.
func (p *pod) readMessages(conn *wsconn.Conn, take func(*wsconn.Conn, []byte) error) {
	defer p.readers.Done()
	defer conn.Finish()
	for {
		message, err := conn.Read()
		if err == nil {
			err = take(conn, message)
		}
		if err != nil {
			p.log.Debug("client gone", "err", err)
			return
		}
	}
}

// takeText publishes a message of a client without a subprotocol, which can be told nothing: if
// Kafka does not take the message in time, the connection is closed.
func (p *pod) takeText(conn *wsconn.Conn, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(conn.Context(), p.cfg.PublishTimeout)
	defer cancel()
	_, err := p.publish(ctx, record.Message{ID: rand.Text(), Pod: p.cfg.Pod, Text: string(text)})
	var rejected *publish.Rejected
	switch {
	case errors.As(err, &rejected):
		conn.Close(wsconn.ClosePolicyViolation, err.Error())
	case err != nil:
		conn.Close(wsconn.CloseTryAgainLater, "Kafka did not answer in time; the message may still appear")
	}
	return err
}

// takeEvent publishes a message of a chat.v1 client and tells it what became of it. It waits for
// Kafka as long as the client does. A client that makes no sense maxStrikes times in a row is
// closed.
func (p *pod) takeEvent(conn *wsconn.Conn, event []byte, strikes *int) error {
	begun := time.Now()
	r, err := record.ParseRequest(event)
	if err != nil {
		if *strikes++; *strikes >= maxStrikes {
			conn.Close(wsconn.ClosePolicyViolation, "too many events that make no sense; the last one: "+err.Error())
			return err
		}
		return conn.Send(record.Reject(r.ID, err.Error()))
	}
	*strikes = 0
	offset, err := p.publish(conn.Context(), record.Message{ID: r.ID, Name: r.Name, Pod: p.cfg.Pod, Text: r.Text})
	var rejected *publish.Rejected
	switch {
	case errors.As(err, &rejected):
		return conn.Send(record.Reject(r.ID, err.Error()))
	case err != nil:
		return err
	}
	return conn.Send(record.Ack(r.ID, offset, time.Since(begun)))
}

// publish writes m to the topic, and returns its offset when this pod has read it back.
func (p *pod) publish(ctx context.Context, m record.Message) (offset int64, err error) {
	return p.publisher.Publish(ctx, m.ID, func(producer sarama.SyncProducer) (int32, int64, error) {
		return producer.SendMessage(&sarama.ProducerMessage{
			Topic:     p.cfg.Topic,
			Partition: 0, // the chat has one order, so it lives in one partition
			Value:     sarama.StringEncoder(m.Text),
			Headers:   record.Headers(m),
		})
	})
}

// handleMessages reads the topic and passes it on to this pod's clients, until ctx ends. A
// consumer that has ended, stalled or lost its broker is closed and opened again where it was.
func (p *pod) handleMessages(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.consume(ctx)
		p.setHealth("consumer", false)
		if errors.Is(err, tail.ErrOtherLog) {
			p.tail.Forget()
		}
		if ctx.Err() == nil {
			p.log.Warn("reading the topic was interrupted", "topic", p.cfg.Topic, "err", err)
			sleep(ctx, reopenPause)
		}
	}
}

const (
	reopenPause = 100 * time.Millisecond
	idleCheck   = 250 * time.Millisecond
	// stallAfter is the silence after which a consumer is opened again, if the broker says that
	// there is more.
	stallAfter = 5 * time.Second
)

var (
	errEnded   = errors.New("the partition consumer has ended")
	errBroken  = errors.New("the partition's leader is lost")
	errStalled = errors.New("the topic goes on, but nothing arrives")
)

// consume opens a consumer where the tail ends, and feeds the tail until something is wrong.
func (p *pod) consume(ctx context.Context) error {
	if err := p.ensureTopic(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	config := p.cfg.Cluster.Config(ctx, p.clientID("consumer"))
	// After a fault sarama would subscribe again by itself, at its own offset, even if the topic
	// is another one by then. Its back-off is where it can be kept from that.
	broken := make(chan struct{}, 1)
	config.Consumer.Retry.BackoffFunc = func(int) time.Duration {
		select {
		case broken <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return time.Hour // the consumer is being closed, and does not wait for this
	}
	client, err := sarama.NewClient(p.cfg.Cluster.Brokers, config)
	if err != nil {
		cancel()
		return fmt.Errorf("connecting to Kafka: %w", err)
	}
	defer client.Close()
	defer cancel() // first of all: it ends whatever the client is waiting for
	oldest, err := client.GetOffset(p.cfg.Topic, 0, sarama.OffsetOldest)
	if err != nil {
		return fmt.Errorf("asking where the topic begins: %w", err)
	}
	newest, err := client.GetOffset(p.cfg.Topic, 0, sarama.OffsetNewest)
	if err != nil {
		return fmt.Errorf("asking where the topic ends: %w", err)
	}
	from, fresh := p.tail.Open(oldest, newest)
	if fresh {
		p.startAnew()
	}

	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return fmt.Errorf("making a consumer: %w", err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(p.cfg.Topic, 0, from)
	if err != nil {
		return fmt.Errorf("consuming from offset %d: %w", from, err)
	}
	defer partition.Close()
	defer cancel()
	p.setHealth("consumer", true)
	p.log.Info("reading the topic", "topic", p.cfg.Topic, "from", from, "end", newest)

	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	for {
		select {
		case message, ok := <-partition.Messages():
			if !ok {
				return errEnded
			}
			if err := p.take(message); err != nil {
				return err
			}
		case err := <-partition.Errors():
			return err
		case <-broken:
			return errBroken
		case <-idle.C:
			if p.stalled(p.tail.Idle(partition.HighWaterMarkOffset())) {
				return errStalled
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take passes one record on: to the log, to the client that waits for it to come back, and to all
// clients.
func (p *pod) take(message *sarama.ConsumerMessage) error {
	added, err := p.tail.Add(message)
	if err != nil {
		return err
	}
	p.publisher.Read(added.ID, added.Offset, added.Shown)
	p.conns.Wake()
	return nil
}

// startAnew tells everybody that the log is a new one.
func (p *pod) startAnew() {
	frames, _ := p.tail.Log()
	p.publisher.Reset()
	p.conns.Reset(frames, record.Event(record.Reset, nil), wsconn.CloseTryAgainLater, "the chat starts anew: its topic is another one")
}

// stalled says whether the topic has gone on while nothing has arrived. Behind the last record
// there may be markers, which nobody gets; so the same end counts only once.
func (p *pod) stalled(silence time.Duration) bool {
	last := p.probe.Last()
	if silence < stallAfter || last.End <= p.tail.Next() || last.End == p.stalledAt {
		return false
	}
	p.stalledAt = last.End
	return true
}

// ensureTopic makes the topic if it is missing.
func (p *pod) ensureTopic(ctx context.Context) error {
	made, partitions, err := p.cfg.Cluster.EnsureTopic(ctx, p.cfg.Topic)
	if err != nil {
		return err
	}
	if made {
		p.log.Info("made the topic", "topic", p.cfg.Topic)
	}
	if partitions > 1 && p.partitions.Load() != partitions {
		p.log.Warn("the topic has several partitions, and the chat is only in partition 0", "topic", p.cfg.Topic, "partitions", partitions)
	}
	p.partitions.Store(partitions)
	return nil
}

func (p *pod) welcome() record.Welcome {
	p.mu.Lock()
	kafka := p.kafka
	p.mu.Unlock()
	return record.Welcome{
		Pod: p.cfg.Pod, Topic: p.cfg.Topic, Standalone: p.cfg.Embedded, Partitions: p.partitions.Load(),
		MaxBytes: record.MaxText, Kafka: kafka, Version: p.page.Version(),
	}
}

// setHealth notes whether a part of the pod reaches Kafka. Clients are told when the first one
// does not, and when all do again.
func (p *pod) setHealth(part string, up bool) {
	p.mu.Lock()
	p.health[part] = up
	kafka := record.Up
	for _, up := range p.health {
		if !up {
			kafka = record.Down
		}
	}
	changed := kafka != p.kafka
	p.kafka = kafka
	p.mu.Unlock()
	if changed {
		p.log.Info("Kafka is "+kafka, "since_start", time.Since(p.started))
		p.conns.SetNotice(statusNotice, record.Status(kafka))
	}
}

// clientID names a part of this pod to the broker; what Kafka does not allow in it is replaced.
func (p *pod) clientID(part string) string {
	id := []byte("chatserver-" + part + "-" + p.cfg.Pod)
	for i, c := range id {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			id[i] = '-'
		}
	}
	return string(id[:min(len(id), 200)])
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
