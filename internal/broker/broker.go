// Package broker is a Kafka broker inside this process: one node on loopback, for a chat that
// should run with nothing but Go installed. Clients speak Kafka's protocol to it over TCP, and
// nothing else of the project knows that it is not Kafka.
//
// The broker itself is kfake, which was written for tests and trusts its clients: one wrong byte
// can end its process. So no client reaches it. conn.go reads one request after another from each
// connection, request.go and batch.go check them and ask kfake in words of their own, and
// datadir.go checks what is on disk before kfake reads it.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Config says where a broker listens and where it keeps its records.
type Config struct {
	Addr    string       // host:port; if the port is taken, another one of the same host
	DataDir string       // records survive a restart here; "" keeps them in memory only
	Topic   string       // made at start, with one partition; "" makes none
	Own     string       // client ids that begin so keep their connections when others lose theirs
	Log     *slog.Logger // nil discards
}

// Broker is a running broker. Its methods may be called concurrently.
type Broker struct {
	cfg     Config
	ln      net.Listener
	lock    *flock.Flock         // nil without a DataDir
	inside  kfake.VirtualNetwork // where kfake listens
	kfake   *kfake.Cluster
	offered *kversion.Versions

	ctx   context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup // accept, and one for each connection

	turns     chan struct{} // has a place for each request that may take much memory at a time
	firstID   int64         // of those that producers get
	producers atomic.Int64  // that have got one
	unseen    atomic.Int64  // bytes written since the last trim
	noGroups  sync.Once     // logs that there are none

	mu      sync.Mutex // guards clients, and what is said of them in client
	clients map[*client]struct{}
	topics  sync.Mutex // held from counting what the topics have to changing it
}

// Start returns a broker that answers, with cfg.Topic made.
func Start(cfg Config) (*Broker, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg, offered: offered(), clients: make(map[*client]struct{}),
		turns: make(chan struct{}, maxTurns), firstID: rand.Int64N(1 << 62)}
	b.ctx, b.end = context.WithCancel(context.Background())
	if err := b.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the embedded broker: %w", err), b.Close())
	}
	b.tasks.Go(b.accept)
	cfg.Log.Info("started the embedded broker: good for trying out and for lessons, not for production", "addr", b.Addr())
	return b, nil
}

func (b *Broker) start() (err error) {
	if b.ln, err = listen(b.cfg.Addr, b.cfg.Log); err != nil {
		return err
	}
	options := []kfake.Opt{
		kfake.NumBrokers(1), kfake.ClusterID("embedded"), kfake.MaxVersions(b.offered), kfake.WithLogger(logger{b.cfg.Log}),
		kfake.BrokerConfigs(map[string]string{"compression.type": "uncompressed"}),
		kfake.ListenFn(func(network, addr string) (net.Listener, error) {
			ln, err := b.inside.Listen(network, addr)
			return advertised{ln, b.ln.Addr()}, err
		}),
	}
	if dir := b.cfg.DataDir; dir != "" {
		if b.lock, err = openDir(dir, b.cfg.Log); err != nil {
			return fmt.Errorf("DATA_DIR %q: %w", dir, err)
		}
		options = append(options, kfake.DataDir(dir))
	}
	if b.kfake, err = kfake.NewCluster(options...); err != nil {
		return fmt.Errorf("DATA_DIR %q: %w", b.cfg.DataDir, err)
	}
	if topic := b.cfg.Topic; topic != "" {
		err := b.create(kmsg.CreateTopicsRequestTopic{Topic: topic, NumPartitions: 1}, false)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("making topic %q: %w", topic, err)
		}
	}
	return b.trim()
}

// listen listens on addr, or on a free port of the same host if that cannot be had.
func listen(addr string, log *slog.Logger) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	host, _, _ := net.SplitHostPort(addr)
	ln, another := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if another != nil {
		return nil, err
	}
	log.Warn("the embedded broker's port is taken, it uses another, and its chat is one of its own; to join that of the first server, start with KAFKA_BROKER",
		"addr", ln.Addr().String(), "join", "KAFKA_BROKER="+addr+" go run ./chatserver", "err", err)
	return ln, nil
}

// Addr is the host:port that clients use.
func (b *Broker) Addr() string { return b.ln.Addr().String() }

// Close ends every connection, writes what is not yet written to the data directory and gives the
// directory free. It may be called again.
func (b *Broker) Close() (err error) {
	b.end()
	if b.ln != nil {
		b.ln.Close()
	}
	b.tasks.Wait() // before kfake ends: what is asked of it later waits for ever
	if b.kfake != nil {
		b.kfake.Close()
	}
	if b.lock != nil {
		err = b.lock.Close()
	}
	return err
}

// advertised is kfake's listener with the address outside, of which kfake tells the clients.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// logger passes kfake's warnings on.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	if level <= kfake.LogLevelWarn {
		l.log.Warn("embedded broker", "err", fmt.Sprintf(format, args...))
	}
}
