// Package broker is a Kafka broker inside this process: one node, on
// loopback, for a chat that should run with nothing but Go installed. Clients
// speak the real protocol to it over TCP; nothing else of the project knows
// that it is not a Kafka.
//
// The broker itself is kfake, which was written for tests and trusts its
// clients. Two things make it fit to run for days on a port that other
// programs can reach: [guard] hands it nothing but well-formed requests, and
// topics.go gives every topic a bound.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config says where a broker listens and where it keeps its records.
type Config struct {
	Addr    string       // host:port; if the port is taken, another one of the same host
	DataDir string       // records survive a restart here; "" keeps them in memory only
	Topic   string       // made at start, with one partition; "" makes none
	Log     *slog.Logger // nil discards
}

// Broker is a running broker. Its methods may be called concurrently.
type Broker struct {
	cluster *kfake.Cluster
	guard   *guard
	lock    *dirLock // nil without a DataDir
}

// Start returns a broker that answers, with cfg.Topic made.
func Start(cfg Config) (*Broker, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := new(Broker)
	if cfg.DataDir != "" {
		var err error
		if b.lock, err = lockDir(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	if err := b.start(cfg, log); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Broker) start(cfg Config, log *slog.Logger) error {
	ln, err := listen(cfg.Addr, log)
	if err != nil {
		return fmt.Errorf("starting the embedded broker: %w", err)
	}
	known := versions()
	b.guard = newGuard(ln, known, log)
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("embedded"),
		kfake.MaxVersions(known),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": strconv.FormatInt(retentionCheck.Milliseconds(), 10)}),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return b.guard, nil }),
		kfake.WithLogger(logger{log}),
	}
	if cfg.DataDir != "" {
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	if b.cluster, err = kfake.NewCluster(opts...); err != nil {
		if cfg.DataDir != "" {
			return fmt.Errorf("opening the records in %s: %w", cfg.DataDir, err)
		}
		return fmt.Errorf("starting the embedded broker: %w", err)
	}
	if cfg.Topic == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := createTopic(ctx, b.Addr(), cfg.Topic); err != nil {
		return fmt.Errorf("making topic %q on the embedded broker: %w", cfg.Topic, err)
	}
	return nil
}

// listen listens on addr, or on a free port of the same host if that port is taken.
func listen(addr string, log *slog.Logger) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, errWindowsAddrInUse) {
		return ln, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ln, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err == nil {
		log.Warn("the embedded broker's port is taken, it uses another", "taken", addr, "addr", ln.Addr().String())
	}
	return ln, err
}

// errWindowsAddrInUse is WSAEADDRINUSE: on Windows syscall.EADDRINUSE is an
// invented number that the system never returns.
const errWindowsAddrInUse = syscall.Errno(10048)

// Addr is the host:port that clients use.
func (b *Broker) Addr() string { return b.guard.Addr().String() }

// Close ends every connection, writes what is not yet written to the data
// directory and gives the directory free. It may be called again.
func (b *Broker) Close() error {
	if b.guard != nil {
		b.guard.Close()
	}
	if b.cluster != nil {
		b.cluster.Close()
	}
	if b.lock != nil {
		return b.lock.unlock()
	}
	return nil
}

// logger sends kfake's log to ours. What kfake calls information is said per
// request, and is for debugging here.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	}
	if ctx := context.Background(); l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded broker", "err", fmt.Sprintf(format, args...))
	}
}
