// Command chatserver is a chat in the browser that scales: each message goes to a Kafka topic,
// and every copy of the server, called a pod, reads the topic and passes it on to its clients.
//
//	browser ──text──▶ handleWSConnections ──SendMessage──▶ Kafka topic, partition 0     the log of the chat
//	                                                             │  one PartitionConsumer a pod
//	browser ◀──bytes── sockets.Loop ◀── position ── frame log ◀── handleMessages         the log of a pod
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
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
	gometrics "github.com/rcrowley/go-metrics"
	"golang.org/x/time/rate"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/page"
	"kafkachat/chatserver/internal/presence"
	"kafkachat/chatserver/internal/publish"
	"kafkachat/chatserver/internal/room"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/chatserver/internal/sockets"
	"kafkachat/internal/broker"
	"kafkachat/internal/kafka"
)

func main() {
	if len(os.Args) > 1 {
		settings.Usage(os.Stderr)
		os.Exit(2)
	}
	gometrics.UseNilMetrics = true // sarama's own counters: nobody reads them, and each costs a goroutine
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // most memory is that of idle clients and stays; little is allocated for a message, so collecting sooner costs little
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chatserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and returns when everything that it started has ended.
func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := settings.Load(getenv)
	if err != nil {
		return err
	}
	log := cfg.Logger(stderr)
	if cfg.Limits.AnyOrigin() {
		log.Warn("ALLOWED_ORIGINS=* lets every web site chat in the name of whoever visits it")
	}
	cfg.Cluster.Warn = func(err error) { log.Warn("cannot use a Kafka broker", "err", err) }

	ln, err := net.Listen("tcp", ":"+strconv.Itoa(cfg.Port))
	if err != nil {
		return fmt.Errorf("PORT=%d cannot be used, choose another: %w", cfg.Port, err)
	}
	defer ln.Close()
	if cfg.Embedded {
		b, err := broker.Start(broker.Config{Addr: cfg.EmbeddedAddr, DataDir: cfg.DataDir, Topic: cfg.Topic, Own: "chatserver-", Log: log})
		if err != nil {
			return err
		}
		defer b.Close()
		cfg.Cluster.Brokers = []string{b.Addr()}
		log.Info("started the embedded broker: good for trying out and for lessons, not for production", "addr", b.Addr())
	}
	admin, err := ops.Listen(cfg.AdminAddr)
	if err != nil {
		return err
	}
	defer admin.Close()
	p, err := newPod(cfg, log)
	if err != nil {
		return err
	}
	log.Info("metrics and profiler", "url", "http://"+admin.Addr().String()+"/metrics")
	fmt.Fprintf(stdout, "Chatting on %s: open http://localhost:%d\n", cfg.Pod, ln.Addr().(*net.TCPAddr).Port)
	return p.serve(ctx, ln, admin)
}

// A pod is one running chat server.
type pod struct {
	// Static after newPod.
	cfg       *settings.Config
	log       *slog.Logger
	page      *page.Page
	upgrader  websocket.Upgrader
	door      *room.Door         // lets clients in
	tail      *history.Tail      // the topic, as this pod has read it
	conns     *sockets.Loop      // writes the tail to the clients
	publisher *publish.Publisher // brings their messages into the topic
	ends      *kafka.Ends        // knows where the topic ends
	presence  *presence.Presence // knows the other pods
	health    *ops.Health        // knows whether Kafka can be reached
	metrics   *ops.Metrics

	suspected  chan struct{} // capacity 1: the topic may be another one
	partitions atomic.Int32  // of the topic; 0 until it is known
}

// Notices are what all chat.v1 clients are told, the newest of each kind.
const (
	statusNotice sockets.Notice = iota // whether Kafka can be reached
	podsNotice                         // who else is there
)

func newPod(cfg *settings.Config, log *slog.Logger) (*pod, error) {
	p := &pod{cfg: cfg, log: log, door: room.New(cfg.Limits), tail: history.New(cfg.LogBytes), suspected: make(chan struct{}, 1)}
	var err error
	if p.page, err = page.New(cfg.Pod); err != nil {
		return nil, err
	}
	frames, _ := p.tail.Log()
	p.conns = sockets.NewLoop(frames)
	p.health = ops.NewHealth(func(up bool) {
		log.Info("Kafka has gone up or down", "kafka", upOrDown(up))
		p.conns.SetNotice(statusNotice, chat.Status(upOrDown(up)))
	}, "consumer", "ends")
	p.ends = cfg.Cluster.NewEnds(cfg.ClientID("ends"), cfg.Topic, 0, func(err error) {
		p.health.Set("ends", err == nil)
		p.conns.Wake() // for those whose place depends on the answer
	})
	p.publisher = publish.New(cfg.Cluster, cfg.ClientID("producer"), p.tail, publish.Outside{
		End: p.endNow, Behind: p.behind, Suspect: p.suspect, OnChange: func(up bool) { p.health.Set("producer", up) },
	}, log)
	p.presence = presence.New(cfg.Cluster, cfg.ClientID("presence"), cfg.Topic, cfg.Pod,
		func() int { return int(p.conns.Stats().Conns) },
		func(pods []presence.Pod) {
			p.conns.SetNotice(podsNotice, chat.Event("pods", map[string]any{"pods": pods}))
		}, log)
	p.upgrader = websocket.Upgrader{
		Subprotocols: []string{chat.Protocol},
		CheckOrigin:  p.door.CheckOrigin,
		// Small, since most connections are idle; a longer message is read into a shared buffer.
		ReadBufferSize:   512,
		WriteBufferPool:  &sync.Pool{}, // only for the handshake's answer
		HandshakeTimeout: 10 * time.Second,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			p.metrics.Refused.WithLabelValues("handshake").Inc()
			http.Error(w, reason.Error()+" (this address is the chat's websocket; the page is at /)", status)
		},
	}
	p.metrics = ops.New(ops.Parts{Conns: p.conns, Tail: p.tail, Ends: p.ends, Health: p.health})
	return p, nil
}

// serve runs the pod's parts until ctx ends, sends the clients away, and stops the parts in the
// order that lets what is under way arrive: clients, then consumer and producer.
func (p *pod) serve(ctx context.Context, ln, admin net.Listener) error {
	life, end := context.WithCancel(context.Background())
	defer end()
	var parts sync.WaitGroup
	parts.Go(func() { p.conns.Run(life) })
	parts.Go(func() { p.ends.Run(life) })
	parts.Go(func() { p.publisher.Run(life) })
	parts.Go(func() { p.handleMessages(life) })
	parts.Go(func() { p.presence.Run(ctx) }) // it says goodbye as soon as the pod begins to stop

	failed := make(chan error, 2)
	// What net/http says is for the operator: no more sockets, a handler that panics.
	errorLog := slog.NewLogLogger(p.log.Handler(), slog.LevelError)
	server := &http.Server{
		Handler: room.Harden(p.routes()),
		// Of one request and its answer; a websocket has no more to do with them.
		ReadTimeout:    10 * time.Second,
		WriteTimeout:   30 * time.Second,
		MaxHeaderBytes: 32 << 10,
		IdleTimeout:    650 * time.Second, // longer than a load balancer keeps its connections, 600 s
		ErrorLog:       errorLog,
	}
	adminServer := &http.Server{Handler: room.Harden(p.metrics.Handler()), ReadTimeout: 10 * time.Second, ErrorLog: errorLog}
	parts.Go(func() { failed <- server.Serve(ln) })
	parts.Go(func() { failed <- adminServer.Serve(admin) })

	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serving HTTP: %w", err)
	case <-ctx.Done():
		p.log.Info("stopping", "clients", p.conns.Stats().Conns)
	}
	p.door.Close()
	p.conns.Drain(p.cfg.DrainTimeout, reconnect, sockets.CloseServiceRestart, "the server is restarting, please reconnect")
	server.Close()
	adminServer.Close()
	end()
	p.door.Wait()
	parts.Wait()
	return err
}

// reconnect is the event by which a client learns when to come back.
func reconnect(within time.Duration) []byte {
	return chat.Event("reconnect", map[string]int64{"within_ms": within.Milliseconds()})
}

func (p *pod) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.page)
	mux.HandleFunc("GET /ws", p.handleWSConnections)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, loaded := p.tail.Log(); !loaded || !p.door.Open() {
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
	request, err := history.Parse(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	leave, err := p.door.Enter(r)
	if err != nil {
		p.metrics.Refused.WithLabelValues(room.Refuse(w, err)).Inc()
		return
	}
	place := p.arrivals().Arrive(request)
	conn, err := p.conns.Upgrade(w, r, &p.upgrader, p.options)
	if err != nil {
		leave()
		p.log.Debug("no websocket", "remote", r.RemoteAddr, "err", err)
		return
	}
	c := &client{pod: p, Conn: conn, pace: rate.NewLimiter(rate.Limit(p.cfg.MessageRate), p.cfg.MessageRate)}
	take := c.takeText
	if conn.Subprotocol() == chat.Protocol {
		take = c.takeEvent
		conn.Start(place.Chat)
	} else {
		conn.Start(place.Raw)
	}
	remote := r.RemoteAddr // the request itself shall not stay in memory
	go func() {
		defer leave()
		defer conn.Finish()
		err := c.readMessages(take)
		p.metrics.CountEnd(err)
		p.log.Debug("client gone", "remote", remote, "err", err)
	}()
}

// arrivals is what decides where a client starts.
func (p *pod) arrivals() history.Source {
	return history.Source{Tail: p.tail, Ends: p.ends, Welcome: p.welcome, Outcome: func(outcome string) {
		p.metrics.Resumes.WithLabelValues(outcome).Inc()
	}}
}

func (p *pod) options(protocol string) sockets.Options {
	if protocol == chat.Protocol {
		// Each byte of the text may be escaped with six.
		return sockets.Options{Track: history.ChatV1, Notices: true, Limit: int64(6*p.cfg.MessageBytes + 1024)}
	}
	return sockets.Options{Track: history.Raw, Limit: int64(p.cfg.MessageBytes)}
}

// A client is the reading side of a websocket. It belongs to one goroutine.
type client struct {
	*sockets.Conn
	pod     *pod
	pace    *rate.Limiter
	strikes int // events in a row that made no sense
}

// maxStrikes is how many events in a row may make no sense before a client is closed.
const maxStrikes = 10

// readMessages takes the client's messages one after another: the next is read when the one
// before has come back from Kafka, so they keep their order, and a client cannot be faster than
// the chat. One that is faster than its pace is not read from, and nothing of it is lost.
func (c *client) readMessages(take func([]byte) error) error {
	for {
		message, err := c.Read()
		if err != nil {
			return err
		}
		if err := c.pace.Wait(c.Context()); err != nil {
			return err
		}
		if err := take(message); err != nil {
			return err
		}
	}
}

// takeText publishes a message of a client without a subprotocol, which can be told nothing: if
// Kafka does not take the message in time, the connection is closed.
func (c *client) takeText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	c.pod.metrics.MessagesIn.WithLabelValues("raw").Inc()
	ctx, cancel := context.WithTimeout(c.Context(), c.pod.cfg.PublishTimeout)
	defer cancel()
	_, err := c.pod.publish(ctx, chat.Message{ID: rand.Text(), Pod: c.pod.cfg.Pod, Text: string(text)}, false)
	var rejected *publish.Rejected
	switch {
	case errors.As(err, &rejected):
		c.pod.metrics.Rejects.WithLabelValues("kafka").Inc()
		c.Close(sockets.ClosePolicyViolation, err.Error())
	case err != nil:
		c.Close(sockets.CloseTryAgainLater, "Kafka did not answer in time; the message may still appear")
	}
	return err
}

// takeEvent publishes a message of a chat.v1 client and tells it what became of it. It waits for
// Kafka as long as the client does. A client that makes no sense too often is closed.
func (c *client) takeEvent(event []byte) error {
	begun := time.Now()
	r, err := chat.ParseRequest(event, c.pod.cfg.MessageBytes)
	if err != nil {
		c.pod.metrics.Rejects.WithLabelValues("malformed").Inc()
		if c.strikes++; c.strikes >= maxStrikes {
			c.Close(sockets.ClosePolicyViolation, "too many events that make no sense; the last one: "+err.Error())
			return err
		}
		return c.Send(chat.Reject(r.ID, err.Error()))
	}
	c.strikes = 0
	c.pod.metrics.MessagesIn.WithLabelValues(chat.Protocol).Inc()
	offset, err := c.pod.publish(c.Context(), chat.Message{ID: r.ID, Name: r.Name, Pod: c.pod.cfg.Pod, Text: r.Text}, r.Again)
	var rejected *publish.Rejected
	switch {
	case errors.As(err, &rejected):
		c.pod.metrics.Rejects.WithLabelValues("kafka").Inc()
		return c.Send(chat.Reject(r.ID, err.Error()))
	case err != nil:
		return err
	}
	return c.Send(chat.Ack(r.ID, offset, time.Since(begun)))
}

// publish writes m to the topic, unless it was sent before and is there, and returns its offset when
// this pod has read it back.
func (p *pod) publish(ctx context.Context, m chat.Message, again bool) (offset int64, err error) {
	defer ops.Since(p.metrics.PublishSeconds, time.Now())
	return p.publisher.Publish(ctx, m.ID, again, func(producer sarama.SyncProducer) (int32, int64, error) {
		return producer.SendMessage(&sarama.ProducerMessage{
			Topic:     p.cfg.Topic,
			Partition: 0, // the chat has one order, so it lives in one partition
			Value:     sarama.StringEncoder(m.Text),
			Headers:   chat.Headers(m),
		})
	})
}

// handleMessages reads the topic and passes it on to this pod's clients, until ctx ends. A
// consumer that has ended, stalled or lost its broker is closed and opened again where it was.
func (p *pod) handleMessages(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := p.consume(ctx)
		p.health.Set("consumer", false)
		if errors.Is(err, history.ErrOtherLog) {
			p.tail.Forget()
		}
		if ctx.Err() != nil {
			return
		}
		p.metrics.Reopened.Inc()
		level := slog.LevelWarn
		if err.Error() == said {
			level = slog.LevelDebug // while Kafka is away it is the same each time
		}
		said = err.Error()
		p.log.Log(ctx, level, "reading the topic was interrupted", "topic", p.cfg.Topic, "err", err)
		sleep(ctx, reopenPause)
	}
}

const (
	reopenPause = 100 * time.Millisecond
	idleCheck   = 250 * time.Millisecond
	// endIsOld is the age of the last known end from which on it says nothing; it is asked for each second.
	endIsOld = 3 * time.Second
)

var errSuspected = errors.New("the topic may be another one than was read")

// consume opens a consumer where the tail ends, and feeds the tail until something is wrong.
func (p *pod) consume(ctx context.Context) error {
	if err := p.ensureTopic(ctx); err != nil {
		return err
	}
	session, err := p.cfg.Cluster.NewSession(ctx, p.cfg.ClientID("consumer"), p.cfg.Topic)
	if err != nil {
		return err
	}
	defer session.Close()
	bounds, err := session.Bounds(0)
	if err != nil {
		return err
	}
	from, fresh := p.tail.Open(bounds.Oldest, bounds.Newest)
	if fresh {
		p.startAnew()
	}
	partition, err := session.ConsumePartition(p.cfg.Topic, 0, from)
	if err != nil {
		return err
	}
	p.health.Set("consumer", true)
	p.log.Info("reading the topic", "topic", p.cfg.Topic, "from", from, "end", bounds.Newest)

	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	for {
		select {
		case message, ok := <-partition.Messages():
			if !ok {
				return session.Err()
			}
			if err := p.take(message); err != nil {
				return err
			}
		case <-p.suspected:
			return errSuspected
		case <-idle.C:
			p.tail.Idle(session.Reached(0))
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
	if added.Live { // what was there before this pod says nothing about its speed
		ops.Since(p.metrics.FanOutSeconds, message.Timestamp)
	}
	p.publisher.Read(added.ID, added.Offset, added.Shown)
	p.conns.Wake()
	return nil
}

// startAnew tells everybody that the log is a new one.
func (p *pod) startAnew() {
	frames, _ := p.tail.Log()
	p.publisher.Reset()
	p.conns.Reset(frames, chat.Event(chat.Reset, nil), sockets.CloseTryAgainLater, "the chat starts anew: its topic is another one")
}

// behind says whether this pod may lack so much of the topic that a message which a client sends
// again could be taken for a new one: it is cut off from Kafka, or has much to read.
func (p *pod) behind() bool {
	last := p.ends.Last()
	return !p.health.Up() || time.Since(last.Asked) > endIsOld || last.Newest-p.tail.Next() > chat.WindowSize/2
}

// suspect has handleMessages look whether the topic is still the one that it has read.
func (p *pod) suspect() {
	select {
	case p.suspected <- struct{}{}:
	default:
	}
}

// endNow asks where the topic ends.
func (p *pod) endNow(ctx context.Context) (int64, error) {
	bounds, err := p.ends.Ask(ctx)
	return bounds.Newest, err
}

// ensureTopic makes the topic if it is missing.
func (p *pod) ensureTopic(ctx context.Context) error {
	state, err := p.cfg.Cluster.EnsureTopic(ctx, p.cfg.Topic, nil)
	if err != nil {
		return err
	}
	if state.Made {
		p.log.Info("made the topic", "topic", p.cfg.Topic)
	}
	if state.Partitions > 1 && p.partitions.Load() != state.Partitions {
		p.log.Warn("the topic has several partitions, and the chat is only in partition 0", "topic", p.cfg.Topic, "partitions", state.Partitions)
	}
	p.partitions.Store(state.Partitions)
	return nil
}

func (p *pod) welcome() chat.Welcome {
	return chat.Welcome{
		Pod: p.cfg.Pod, Topic: p.cfg.Topic, Standalone: p.cfg.Embedded, Partitions: p.partitions.Load(),
		MaxBytes: p.cfg.MessageBytes, Kafka: upOrDown(p.health.Up()), Version: p.page.Version(),
	}
}

func upOrDown(up bool) string {
	if up {
		return chat.Up
	}
	return chat.Down
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
