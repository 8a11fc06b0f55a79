// Package broker is a Kafka broker inside this process: one node on loopback, for a chat that should
// run with nothing but Go installed. Nothing else of the project knows that it is not Kafka.
//
// It is kfake, which was written for tests and trusts its clients and its files. So conn.go lets only
// whole and known requests through to it, request.go makes them harmless before kfake does what they
// ask, and datadir.go checks what is on disk before kfake reads it.
package broker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkachat/internal/wire"
)

const (
	maxConns       = 100              // a pod has about six; each costs 20 KB and what its largest request and answer took
	requestTimeout = 10 * time.Second // from a request's length to its last byte, or for a first one
	answerTimeout  = 30 * time.Second // for reading an answer
	maxBatch       = 1<<20 + 12       // before and after decompression, Kafka's own default
	headerLength   = 61               // of a batch
	maxRequest     = 4 * maxBatch     // producers send the batches of several partitions together
	maxOther       = 32 << 10         // a request without records; a topic's name may have 249 letters
	maxFetch       = 256 << 10        // of records in an answer; a first batch is always sent whole
	maxFetchWait   = 5000             // milliseconds, for them
	maxProducers   = 10_000           // with an id; kfake forgets none
	maxPartitions  = 100              // of all topics
	maxKept        = 16 << 20         // bytes of batches in a partition
	segmentBytes   = 1 << 20          // kfake gives memory (or disk) back by whole segments
)

// Config says where a broker listens and where it keeps its records.
type Config struct {
	Addr    string       // host:port; if the port is taken, another one of the same host
	Host    string       // what clients are told if Addr means every address of this machine; "" is 127.0.0.1
	DataDir string       // records survive a restart here; "" keeps them in memory only
	Own     string       // client ids that begin so keep their connections when others lose theirs
	Log     *slog.Logger // nil discards
}

// Broker is a running broker. Its methods may be called concurrently.
type Broker struct {
	cfg     Config
	offered *kversion.Versions
	ln      net.Listener
	lock    *flock.Flock // nil without a DataDir
	kfake   *kfake.Cluster
	ready   chan struct{} // closed when kfake may accept connections

	mu    sync.Mutex // guards conns, and own and last of each
	conns map[*conn]struct{}

	unseen atomic.Int64 // bytes of batches since retention was applied

	// Owned by adjust after Start.
	partitions map[string]int // by topic
	ids        int            // that producers have asked for
	producers  map[int64]bool // ids that have sent a batch
	unpacker   wire.Decompressor
	refusal    *kerr.Error // of the CreateTopics request that is being answered
}

// Start returns a broker that answers.
func Start(cfg Config) (*Broker, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	b := &Broker{cfg: cfg, offered: offered(), ready: make(chan struct{}), conns: make(map[*conn]struct{}),
		partitions: make(map[string]int), producers: make(map[int64]bool), unpacker: wire.Decompressor{Max: maxBatch - headerLength}}
	defer close(b.ready)
	err := b.open()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the embedded broker: %w", err), b.Close())
	}
	cfg.Log.Info("started the embedded broker: good for trying out and for lessons, not for production", "addr", b.Addr())
	return b, nil
}

// open checks what is in the DataDir, listens, and starts kfake.
func (b *Broker) open() error {
	folders, err := b.openDir()
	if err != nil {
		return fmt.Errorf("DATA_DIR %q: %w", b.cfg.DataDir, err)
	}
	if err := b.listen(); err != nil {
		return err
	}
	warnings := slog.NewLogLogger(b.cfg.Log.With("from", "the embedded broker").Handler(), slog.LevelWarn)
	b.kfake, err = kfake.NewCluster(
		kfake.NumBrokers(1), kfake.DefaultNumPartitions(1), kfake.ClusterID("embedded"), kfake.MaxVersions(b.offered),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener{b.ln, b}, nil }),
		kfake.DataDir(b.cfg.DataDir), kfake.BrokerConfigs(map[string]string{
			"compression.type": "uncompressed", "log.segment.bytes": fmt.Sprint(segmentBytes),
			// Nothing is deleted for its age: a client may write anything for it.
			"log.retention.bytes": fmt.Sprint(maxKept), "log.retention.ms": "-1",
		}), kfake.WithLogger(kfake.BasicLogger(warnings.Writer(), kfake.LogLevelWarn)))
	if err != nil {
		return fmt.Errorf("DATA_DIR %q: %w", b.cfg.DataDir, err)
	}
	b.kfake.Fault(b.faults()...)
	return b.countPartitions(folders)
}

// listen listens on cfg.Addr, or on a free port of the same host if that cannot be had.
func (b *Broker) listen() (err error) {
	if b.ln, err = net.Listen("tcp", b.cfg.Addr); err == nil {
		return nil
	}
	host, port, _ := net.SplitHostPort(b.cfg.Addr)
	if b.ln, _ = net.Listen("tcp", net.JoinHostPort(host, "0")); b.ln == nil {
		return err
	}
	here, _, _ := net.SplitHostPort(b.Addr())
	b.cfg.Log.Warn("the embedded broker's port is in use, so this broker has another port, and its chat is one of its own; "+
		"to join the chat of the first server, set KAFKA_BROKER", "addr", b.Addr(), "join", "KAFKA_BROKER="+net.JoinHostPort(here, port), "err", err)
	return nil
}

// Addr is the host:port that clients on this machine use.
func (b *Broker) Addr() string { return b.addr("").String() }

// addr is where the broker listens, on this host if that is on every address.
func (b *Broker) addr(host string) net.Addr {
	addr := *b.ln.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		addr.IP = net.ParseIP(cmp.Or(host, "127.0.0.1"))
	}
	return &addr
}

// Close ends every connection, writes what is not yet written to the data directory and gives the
// directory free. It may be called again.
func (b *Broker) Close() (err error) {
	if b.ln != nil {
		b.ln.Close()
	}
	if b.kfake != nil {
		b.kfake.Close()
	}
	if b.lock != nil {
		err = b.lock.Close()
	}
	return err
}
