// Command chatserver is a chat in the browser that scales. Each message goes to a Kafka topic.
// Every copy of the server, called a pod, reads the topic and sends the messages to its own
// clients.
//
//	browser ──text──▶ handleWSConnections ──SendMessage──▶ Kafka topic, partition 0     the log of the chat
//	                                                             │  one consumer of the partition per pod
//	browser ◀──bytes── position ◀── frame log ◀─────── handleMessages                   the log of a pod
//
// Kafka orders the chat. A pod keeps the newest part of the chat in memory as ready-made websocket
// frames, the same bytes for every client. For a client, a pod keeps only a position in the frames.
// After a break, any pod can continue at that position.
//
//	go run ./chatserver                                            a chat with a broker inside
//	PORT=8001 KAFKA_BROKER=localhost:9092 go run ./chatserver      a second pod of the same chat
//	go run ./chatserver -h                                         lists the environment variables
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
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
)

func main() {
	cli.Setup(50) // most memory is that of idle clients, and a message takes little
	ctx := cli.Signals(context.Background())
	os.Exit(cli.Exit(cli.NewSay("chatserver", os.Stderr), run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)))
}

// run serves until ctx ends, and returns when everything that it started has ended.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := settings.Load(args, getenv, stdout)
	if err != nil {
		return err
	}
	ln, admin, err := ops.Listen(cfg.Port, cfg.AdminAddr)
	if err != nil {
		return err
	}
	defer ln.Close()
	defer admin.Close()
	cfg.SetPort(ln.Addr().(*net.TCPAddr).Port)
	log := ops.Logger(stderr, cfg.LogLevel, cfg.Pod)
	if cfg.Embedded {
		b, err := broker.Start(broker.Config{Addr: cfg.EmbeddedAddr, DataDir: cfg.DataDir, Topic: cfg.Topic, Own: "chatserver-", Log: log})
		if err != nil {
			return err
		}
		defer b.Close()
		cfg.Cluster.Brokers = []string{b.Addr()}
	}
	cfg.Tell(log, admin.Addr())
	return newPod(cfg, log).serve(ctx, ln, admin, stdout)
}

// A pod is one running chat server. Its fields do not change after newPod.
type pod struct {
	cfg       *settings.Config
	page      *page.Page
	room      *room.Room         // admits clients, and reads their messages
	history   *history.History   // the topic, as this pod has read it
	conns     *sockets.Loop      // writes the history to the clients
	publisher *publish.Publisher // writes the clients' messages to the topic
	presence  *presence.Presence // knows the other pods
	health    *ops.Health        // knows whether Kafka can be used
	metrics   *ops.Metrics
}

func newPod(cfg *settings.Config, log *slog.Logger) *pod {
	p := &pod{cfg: cfg, page: page.New(cfg.Pod)}
	tellClients := func(why error) { p.conns.SetNotice(room.StatusNotice, chat.Status(publish.Reason(why))) }
	p.health = ops.NewHealth(log, tellClients, history.Consumer, history.Ends)
	p.history = history.New(history.Config{
		Cluster: cfg.Cluster, ClientID: cfg.ClientID, Topic: cfg.Topic, Limit: cfg.LogBytes, Log: log,
		Report: func(part string, err error) {
			p.health.Report(part, err)
			p.conns.Wake() // for clients whose place depends on Kafka's answer
		},
	})
	frames, _ := p.history.Frames()
	p.conns = sockets.NewLoop(frames)
	tellClients(p.health.Why())
	p.publisher = publish.New(cfg.Cluster, cfg.ClientID(publish.Producer), cfg.Topic, p.history, p.health.Report, log)
	p.presence = presence.New(cfg.Cluster, cfg.ClientID("presence"), cfg.Topic, func() presence.Pod {
		topic := p.history.Stats()
		return presence.Pod{Name: cfg.Pod, People: int(p.conns.Stats().Conns), Offset: topic.Next, End: topic.End}
	}, func(pods []presence.Pod) {
		p.conns.SetNotice(room.PodsNotice, chat.Event("pods", map[string]any{"pods": pods}))
	}, log)
	p.metrics = ops.New(p.conns, p.history, p.health)
	p.room = room.New(room.Config{Limits: cfg.Limits, Pod: cfg.Pod, PublishTimeout: cfg.PublishTimeout, Sockets: p.conns, Metrics: p.metrics,
		Log: log, Place: p.history.Place, Welcome: p.welcome})
	return p
}

// serve runs the parts of the pod until asked ends or an HTTP server fails. Then serve stops the
// parts in an order that lets messages under way arrive: first the clients, then the parts that use
// Kafka.
func (p *pod) serve(asked context.Context, ln, admin net.Listener, stdout io.Writer) (failed error) {
	ctx, fail := context.WithCancelCause(asked)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { p.conns.Run(life) })
	parts.Go(func() { p.history.Run(life) })
	parts.Go(func() { p.publisher.Run(life) })
	parts.Go(func() { p.handleMessages(life) })
	parts.Go(func() { p.presence.Run(ctx) }) // says goodbye as soon as the pod begins to stop
	server, adminServer := p.room.Server(p.routes()), p.room.AdminServer(p.metrics.Handler())
	parts.Go(func() { fail(fmt.Errorf("serving HTTP: %w", server.Serve(ln))) })
	parts.Go(func() { fail(fmt.Errorf("serving the metrics: %w", adminServer.Serve(admin))) })
	ops.Greet(ctx, stdout, p.cfg.Pod, p.cfg.Port, p.cfg.Where == "laptop", p.history.Ready)

	<-ctx.Done()
	if asked.Err() == nil {
		failed = context.Cause(ctx)
	}
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
	mux.Handle("GET /healthz", ops.Check())
	mux.Handle("GET /readyz", ops.Check(p.room.Ready, p.history.Ready))
	return mux
}

// handleWSConnections upgrades the request to a websocket, and writes the client's messages to the
// topic. The client gets its own message as all clients do: when handleMessages has read it.
func (p *pod) handleWSConnections(w http.ResponseWriter, r *http.Request) {
	client, err := p.room.Enter(w, r)
	if err != nil {
		return // the request has been answered
	}
	// Talk gets a goroutine of its own: this one holds the memory of an HTTP request.
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

// handleMessages reads the topic for this pod's clients, until ctx ends. After a fault a new
// consumer continues where the last one stopped.
func (p *pod) handleMessages(ctx context.Context) {
	for p.history.Interrupted(ctx, p.consume(ctx)) {
		p.metrics.Reopened.Inc()
	}
}

func (p *pod) consume(ctx context.Context) error {
	session, from, err := p.history.Connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	frames, _ := p.history.Frames()
	p.conns.Reset(frames, chat.Event(chat.Reset, nil), "the chat starts anew: its topic is another one")
	partition, err := session.ConsumePartition(p.cfg.Topic, 0, from)
	if err != nil {
		return err
	}
	for {
		select {
		case message, ok := <-partition.Messages():
			if !ok {
				return session.Err()
			}
			added := p.history.Add(message)
			if added.Live { // older records say nothing about the speed of this pod
				ops.Since(p.metrics.FanOutSeconds, message.Timestamp)
			}
			p.publisher.Read(added.ID, added.Shown)
		case <-session.Answered():
		}
		p.history.Reached(session.Reached())
		p.conns.Wake()
	}
}

// welcome returns the facts about the pod for a client. Name is the person's, if a proxy gave one.
func (p *pod) welcome(name string) chat.Welcome {
	return chat.Welcome{
		Pod: p.cfg.Pod, Name: name, Topic: p.cfg.Topic, Standalone: p.cfg.Embedded, Partitions: p.history.Stats().Partitions, Where: p.cfg.Where, Broker: p.cfg.KafkaHere(),
		MaxBytes: p.cfg.Limits.MessageBytes, Kafka: chat.Kafka(publish.Reason(p.health.Why())), Version: p.page.Version(),
	}
}
