// Package broker is a Kafka broker inside this process: one node on loopback, for a chat that needs
// only Go installed. Clients speak Kafka's protocol to the broker over TCP, and need not know that
// it is not Kafka.
//
// The broker itself is kfake, which was written for tests and trusts its clients: one wrong byte
// can end the process. No client reaches kfake. conn.go reads one request after another from each
// connection. request.go and batch.go check each request, and send kfake a request of their own.
// datadir.go checks the files on disk before kfake reads them.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/gofrs/flock"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkachat/internal/wire"
)

// Config says where a broker listens and where it keeps its records.
type Config struct {
	Addr    string       // host:port; "": the usual one, or a free port if that is in use
	DataDir string       // folder in which records survive a restart; "": in memory only
	Topic   string       // made at start, with one partition; "" makes none
	Own     string       // clients whose id begins so keep their connections when there are too many
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

	clientsMu sync.Mutex // guards clients, and own and last of each
	clients   map[*client]struct{}
	large     sync.Mutex // held while a large request is in memory
	topics    sync.Mutex // held while topics are made
	wanted    int        // partitions once these are made; guarded by topics
	producers atomic.Int64
	firstID   int64 // the first of maxProducers ids, which producers get in turn

	producing sync.Mutex // guards the following: one Produce request at a time is decompressed
	unpacker  wire.Decompressor
	unseen    int // bytes written since the last trim
}

// Start returns a running broker that has cfg.Topic.
func Start(cfg Config) (*Broker, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	b := &Broker{cfg: cfg, offered: offered(), clients: make(map[*client]struct{}), firstID: rand.Int64N(1 << 62),
		unpacker: wire.Decompressor{Max: maxBatch - wire.HeaderLength}}
	b.ctx, b.end = context.WithCancel(context.Background())
	if err := b.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the embedded broker: %w", err), b.Close())
	}
	b.tasks.Go(b.accept)
	cfg.Log.Info("started the embedded broker: good for trying out and for lessons, not for production", "addr", b.Addr())
	return b, nil
}

func (b *Broker) start() (err error) {
	var segments map[string][]int64
	if dir := b.cfg.DataDir; dir != "" {
		if segments, err = b.openDir(dir); err != nil {
			return fmt.Errorf("DATA_DIR %q: %w", dir, err)
		}
	}
	if err := b.listen(usual); err != nil {
		return err
	}
	warnings := slog.NewLogLogger(b.cfg.Log.With("from", "the embedded broker").Handler(), slog.LevelWarn)
	b.kfake, err = kfake.NewCluster(
		kfake.NumBrokers(1), kfake.DefaultNumPartitions(1), kfake.ClusterID("embedded"), kfake.MaxVersions(b.offered),
		kfake.WithLogger(kfake.BasicLogger(warnings.Writer(), kfake.LogLevelWarn)),
		kfake.DataDir(b.cfg.DataDir), kfake.BrokerConfigs(map[string]string{"compression.type": "uncompressed"}),
		kfake.ListenFn(b.inside.Listen))
	if err != nil {
		return fmt.Errorf("DATA_DIR %q: %w", b.cfg.DataDir, err)
	}
	for _, p := range b.partitions() {
		delete(segments, fmt.Sprintf("partitions/%s-%d", url.PathEscape(p.topic), p.Partition))
	}
	for folder := range segments { // kfake would make this topic anew, and append to the segments of the old one
		return fmt.Errorf("DATA_DIR %q: %s has records, but topics.json and meta.json do not name its topic: "+
			"restore these two from a copy, or move the folder away", b.cfg.DataDir, folder)
	}
	b.refuse()
	if topic := b.cfg.Topic; topic != "" {
		if err := b.kfake.CreateTopic(topic, 1, settings()); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("making topic %q: %w", topic, err)
		}
	}
	return nil
}

// usual is the address at which kafkaread and kafkawrite look for a broker.
const usual = "127.0.0.1:9092"

// listen listens on cfg.Addr. If that is "", listen takes the usual address, or if that is in use a
// free port.
func (b *Broker) listen(usual string) (err error) {
	if b.ln, err = net.Listen("tcp", cmp.Or(b.cfg.Addr, usual)); err != nil && b.cfg.Addr != "" {
		return fmt.Errorf("EMBEDDED_ADDR=%q cannot be used: choose another port or address of this machine, or unset EMBEDDED_ADDR (%w)", b.cfg.Addr, err)
	}
	if err != nil {
		b.cfg.Log.Warn("the usual address of a broker is not free, so this server has a broker and a chat of its own; join would be the chat that is there",
			"err", err, "join", "KAFKA_BROKER="+usual)
		b.ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return err
}

// Addr is the host:port that clients on this machine use.
func (b *Broker) Addr() string {
	addr := *b.ln.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() { // it listens on all addresses of this machine
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	return addr.String()
}

// Close ends every connection, writes all that is unwritten to the data directory, and unlocks the
// directory. Close may be called again.
func (b *Broker) Close() (err error) {
	b.end()
	if b.ln != nil {
		b.ln.Close()
	}
	b.tasks.Wait() // before kfake ends: a later request to kfake waits for ever
	if b.kfake != nil {
		b.kfake.Close()
	}
	if b.lock != nil {
		err = b.lock.Close()
	}
	return err
}
