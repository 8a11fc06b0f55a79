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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"

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
	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

func main() {
	if answered, err := settings.Answer(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chatserver:", err)
		os.Exit(2)
	} else if answered {
		return
	}
	cli.Setup()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // most memory is that of idle clients and stays; little is allocated for a message, so collecting sooner costs little
	}
	if err := run(cli.Signals(context.Background()), os.Getenv, os.Stdout, os.Stderr); err != nil {
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
	log := ops.Logger(stderr, cfg.LogLevel, cfg.Pod)
	cfg.Warn(log)
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
	}
	admin, err := ops.Listen(cfg.AdminAddr, log)
	if err != nil {
		return err
	}
	defer admin.Close()
	p, err := newPod(cfg, log)
	if err != nil {
		return err
	}
	return p.serve(ctx, ln, admin, stdout)
}

// A pod is one running chat server.
type pod struct {
	// Static after newPod.
	cfg       *settings.Config
	log       *slog.Logger
	page      *page.Page
	room      *room.Room         // lets clients in, and reads what they say
	history   *history.History   // the topic, as this pod has read it
	conns     *sockets.Loop      // writes the history to the clients
	publisher *publish.Publisher // brings their messages into the topic
	ends      *kafka.Ends        // knows where the topic ends
	presence  *presence.Presence // knows the other pods
	health    *ops.Health        // knows whether Kafka can be reached
	metrics   *ops.Metrics

	partitions atomic.Int32 // of the topic; 0 until it is known
}

// Notices are what all chat.v1 clients are told, the newest of each kind.
const (
	statusNotice sockets.Notice = iota // whether Kafka can be reached
	podsNotice                         // who else is there
)

func newPod(cfg *settings.Config, log *slog.Logger) (*pod, error) {
	p := &pod{cfg: cfg, log: log}
	var err error
	if p.page, err = page.New(cfg.Pod); err != nil {
		return nil, err
	}
	p.health = ops.NewHealth(log, func(why error) { p.conns.SetNotice(statusNotice, chat.Status(publish.Reason(why))) }, "consumer", "ends")
	p.ends = cfg.Cluster.NewEnds(cfg.ClientID("ends"), cfg.Topic, 0, func(err error) {
		p.health.Report("ends", err)
		p.conns.Wake() // for those whose place depends on the answer
	})
	p.history = history.New(history.Config{
		Limit: cfg.LogBytes, Ends: p.ends, Record: history.RecordOf(cfg.Cluster, cfg.ClientID("old"), cfg.Topic),
		Report:  func(err error) { p.health.Report("consumer", err) },
		Changed: func() { p.conns.Wake() },
		Placed:  func(outcome string) { p.metrics.Resumes.WithLabelValues(outcome).Inc() },
		Log:     log,
	})
	frames, _ := p.history.Frames()
	p.conns = sockets.NewLoop(frames)
	p.publisher = publish.New(cfg.Cluster, cfg.ClientID("producer"), cfg.Topic, p.history, func(err error) { p.health.Report("producer", err) }, log)
	p.presence = presence.New(cfg.Cluster, cfg.ClientID("presence"), cfg.Topic, p.self, func(pods []presence.Pod) {
		p.conns.SetNotice(podsNotice, chat.Event("pods", map[string]any{"pods": pods}))
	}, log)
	p.metrics = ops.New(ops.Parts{Conns: p.conns, History: p.history, Ends: p.ends, Health: p.health})
	p.room = room.New(room.Config{
		Limits: cfg.Limits, Pod: cfg.Pod, PublishTimeout: cfg.PublishTimeout,
		Sockets: p.conns, Metrics: p.metrics, Log: log, Arrive: p.arrive,
	})
	return p, nil
}

// serve runs the pod's parts until ctx ends or serving HTTP fails, sends the clients away, and stops
// the parts in the order that lets what is under way arrive: clients, then consumer and producer.
func (p *pod) serve(asked context.Context, ln, admin net.Listener, stdout io.Writer) error {
	ctx, fail := context.WithCancelCause(asked)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var parts sync.WaitGroup
	parts.Go(func() { p.conns.Run(life) })
	parts.Go(func() { p.ends.Run(life) })
	parts.Go(func() { p.history.Run(life) })
	parts.Go(func() { p.publisher.Run(life) })
	parts.Go(func() { p.handleMessages(life) })
	parts.Go(func() { p.presence.Run(ctx) }) // it says goodbye as soon as the pod begins to stop

	server, adminServer := p.room.Server(p.routes()), p.room.AdminServer(p.metrics.Handler())
	parts.Go(func() { fail(fmt.Errorf("serving HTTP: %w", server.Serve(ln))) })
	parts.Go(func() { fail(fmt.Errorf("serving the metrics: %w", adminServer.Serve(admin))) })
	ops.Greet(ctx, stdout, p.cfg.Pod, ln.Addr().(*net.TCPAddr).Port, p.cfg.Where == "laptop", func() bool { return p.ready() == nil })

	<-ctx.Done()
	var failed error
	if asked.Err() == nil {
		failed = context.Cause(ctx)
	}
	p.log.Info("stopping", "clients", p.conns.Stats().Conns)
	p.room.Drain(p.cfg.DrainTimeout) // http.Server.Shutdown does not close websockets
	server.Close()
	adminServer.Close()
	end()
	p.room.Wait()
	parts.Wait()
	return failed
}

func (p *pod) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.page)
	mux.HandleFunc("GET /ws", p.handleWSConnections)
	mux.Handle("GET /healthz", ops.Check(func() error { return nil }))
	mux.Handle("GET /readyz", ops.Check(p.ready))
	return mux
}

// ready returns why clients may not come.
func (p *pod) ready() error {
	if !p.room.Open() {
		return errors.New("the server is stopping")
	}
	return p.history.Ready()
}

// handleWSConnections makes a websocket of the request, and writes what its client says to the topic.
// Like everybody else, the client gets the message when handleMessages has read it.
func (p *pod) handleWSConnections(w http.ResponseWriter, r *http.Request) {
	client, err := p.room.Enter(w, r)
	if err != nil {
		return // the request has been answered
	}
	// In a goroutine of its own, since this one holds the memory of an HTTP request.
	go client.Talk(func(ctx context.Context, m chat.Message, again bool) (offset int64, err error) {
		defer ops.Since(p.metrics.PublishSeconds, time.Now())
		return p.publisher.Publish(ctx, m.ID, again, func(producer sarama.SyncProducer) (partition int32, offset int64, err error) {
			return producer.SendMessage(&sarama.ProducerMessage{
				Topic:     p.cfg.Topic,
				Partition: 0, // the chat has one order, so it lives in one partition
				Value:     sarama.StringEncoder(m.Text),
				Headers:   chat.Headers(m),
			})
		})
	})
}

// arrive decides where a client starts, from what it asks for in its URL.
func (p *pod) arrive(query url.Values, name string) (asChat, asRaw sockets.Place, err error) {
	request, err := history.Parse(query)
	if err != nil {
		return nil, nil, err
	}
	welcome := func() chat.Welcome {
		w := p.welcome()
		w.Name = name
		return w
	}
	place := p.history.Arrive(request, welcome)
	return place.Chat, place.Raw, nil
}

// handleMessages reads the topic and passes it on to this pod's clients, until ctx ends. After a fault
// another consumer goes on where the last one was.
func (p *pod) handleMessages(ctx context.Context) {
	for p.history.Interrupted(ctx, p.cfg.Cluster.Explain(p.consume(ctx), kafka.Read, p.cfg.Topic)) {
		p.metrics.Reopened.Inc()
	}
}

// consume opens a consumer where the history ends, and feeds the history until something is wrong.
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
	from, another := p.history.Open(bounds.Oldest, bounds.Newest)
	if another {
		p.startAnew()
	}
	partition, err := session.ConsumePartition(p.cfg.Topic, 0, from)
	if err != nil {
		return err
	}
	p.log.Info("reading the topic", "topic", p.cfg.Topic, "from", from, "end", bounds.Newest)
	check := time.NewTicker(history.CheckEvery)
	defer check.Stop()
	for {
		select {
		case message, ok := <-partition.Messages():
			if !ok {
				return session.Err()
			}
			added, err := p.history.Add(message)
			if err != nil {
				return err
			}
			if added.Live { // what was there before this pod says nothing about its speed
				ops.Since(p.metrics.FanOutSeconds, message.Timestamp)
			}
			p.publisher.Read(added.ID, added.Offset, added.Shown)
			p.conns.Wake()
		case <-check.C:
			if err := p.history.Reached(session.Reached(0)); err != nil {
				return err
			}
		}
	}
}

// startAnew tells everybody that the log is a new one.
func (p *pod) startAnew() {
	frames, _ := p.history.Frames()
	p.publisher.Reset()
	p.conns.Reset(frames, chat.Event(chat.Reset, nil), sockets.CloseTryAgainLater, "the chat starts anew: its topic is another one")
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
	if mend := state.Mend(p.cfg.Topic); mend != "" && p.partitions.Load() == 0 {
		p.log.Warn("the topic cannot be written to while one of its brokers is away: give it another copy with kafka-reassign-partitions.sh, or ask for one less",
			"topic", p.cfg.Topic, "copies", state.Copies, "min.insync.replicas", state.MinInSync, "mend", mend)
	}
	p.partitions.Store(state.Partitions)
	return nil
}

func (p *pod) welcome() chat.Welcome {
	return chat.Welcome{
		Pod: p.cfg.Pod, Topic: p.cfg.Topic, Standalone: p.cfg.Embedded, Partitions: p.partitions.Load(), Where: p.cfg.Where,
		MaxBytes: p.cfg.Limits.MessageBytes, Kafka: chat.Kafka(publish.Reason(p.health.Why())), Version: p.page.Version(),
	}
}

// self is what the other pods are told of this one.
func (p *pod) self() presence.Pod {
	next := p.history.Next()
	return presence.Pod{Name: p.cfg.Pod, People: int(p.conns.Stats().Conns), Offset: next, End: max(next, p.ends.Last().Newest)}
}
