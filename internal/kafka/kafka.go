// Package kafka is how every program of this repository connects to Kafka: the brokers, TLS and
// SASL come from the environment, the sarama settings from one place, and a fault that a person has
// to mend comes as one clear sentence.
package kafka

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/wire"
)

const (
	// DefaultTopic is the topic of the chat.
	DefaultTopic = "chat"
	// defaultBroker is where `go run ./chatserver` has its embedded broker.
	defaultBroker = "localhost:9092"
)

const (
	dialTimeout = 3 * time.Second // for a connection, with its TLS handshake

	ioTimeout = 3 * time.Second // for one request
	// produceTimeout is less, so that the broker's answer comes before the socket is given up.
	produceTimeout = 2 * time.Second
	// backoff is the pause between two attempts at something that failed.
	backoff = 100 * time.Millisecond
	// metadataRetries times backoff is how long sarama looks for a leader before it reports an
	// error: "for ever", because three such errors within ten seconds open its circuit breaker, and
	// then it sends nothing for ten seconds.
	metadataRetries = 1000
	// metadataTimeout is never reached by these: a pause beyond it calls off the rest of them.
	metadataTimeout = 100 * time.Hour
)

// Cluster is a Kafka cluster and how to connect to it. It may be used by several goroutines; its
// fields must not be changed once it is in use.
type Cluster struct {
	// Brokers are the bootstrap brokers, host:port.
	Brokers []string

	tls                       *tls.Config // nil: plain text
	mechanism, user, password string      // of SASL; without a mechanism there is no login
	inPod                     bool        // the program runs in Kubernetes
}

// Config returns fresh settings for one sarama client whose network life is ctx: when ctx ends, its
// open connections are closed, it gets no new ones, and it no longer pauses between attempts, so
// that closing it is quick whatever state the cluster is in. A producer and a consumer must not
// share a client: a consumer's fetch waits for records with the broker's lock held. The caller may
// change the settings before the first use, but not after it.
func (c *Cluster) Config(ctx context.Context, clientID string) *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = clientID
	// Sarama does not negotiate; the requests of 2.8 are understood by brokers from 2.3 to 4.x.
	config.Version = sarama.V2_8_0_0
	config.ApiVersionsRequest = false
	config.ChannelBufferSize = 256

	config.Net.Proxy.Enable = true // not a proxy: the only hook for a dialer of one's own
	config.Net.Proxy.Dialer = &dialer{ctx, c.tls, nil}
	config.Net.ReadTimeout = ioTimeout
	config.Net.WriteTimeout = ioTimeout
	config.Net.MaxOpenRequests = 1
	c.login(config)

	// Only topics that are asked for, and no failure to start while the broker is away.
	config.Metadata.Full = false
	config.Metadata.AllowAutoTopicCreation = false
	config.Metadata.RefreshFrequency = time.Second // finds dead connections, and keeps live ones from idling out
	config.Metadata.Retry.Max = metadataRetries
	config.Metadata.Timeout = metadataTimeout
	config.Metadata.Retry.BackoffFunc = func(int, int) time.Duration {
		// It waits here and returns 0, because after a pause of its own sarama gives up if another
		// goroutine has asked for metadata meanwhile; that error counts for the circuit breaker.
		pause := time.NewTimer(backoff)
		defer pause.Stop()
		select {
		case <-pause.C:
			return 0
		case <-ctx.Done():
			// No pause, but the end: sarama does not begin one that goes beyond the timeout. (It
			// would in look-ups for consumer groups and transactions, which nobody here has.)
			return 2 * metadataTimeout
		}
	}

	// The producer does not retry: its retries were measured to double and to reorder records, or,
	// idempotent and with several requests under way, to lose them. Whoever sends must find out
	// himself whether a failed record is in the topic.
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Timeout = produceTimeout
	config.Producer.Retry.Max = 0
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = 1 << 20 // as brokers do by default, but for a batch's head
	config.Producer.Return.Successes = true   // a SyncProducer needs both
	config.Producer.Return.Errors = true

	config.Consumer.MaxWaitTime = time.Second // less than ioTimeout; a first record ends the wait at once
	// A transaction that somebody left open must not stop the readers.
	config.Consumer.IsolationLevel = sarama.ReadUncommitted
	return config
}

// A fault is a sentence for the person who has to mend it. It says everything, so nobody adds to
// it.
type fault struct {
	text  string
	cause error
}

func newFault(cause error, format string, args ...any) *fault {
	return &fault{fmt.Sprintf(format, args...), cause}
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.cause }

// A dialer makes all connections of one client. They end with its context.
type dialer struct {
	ctx     context.Context
	tls     *tls.Config          // nil: plain text
	fetched func(batches []byte) // see wire.NewConn
}

// Dial connects to a broker, including the TLS handshake: sarama's own has no deadline.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	dial := plain.DialContext
	if d.tls != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: d.tls}).DialContext
	}
	made, err := dial(d.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	raw := made
	if secure, ok := made.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	return &conn{wire.NewConn(made, ioTimeout, d.fetched), context.AfterFunc(d.ctx, func() {
		// Nothing that is still in its send buffer goes out: whoever ended the context decides on his
		// own what happens to a request that was under way.
		raw.(*net.TCPConn).SetLinger(0)
		raw.Close() // closing TLS waits to say goodbye
	})}, nil
}

// A conn ends with its dialer's context.
type conn struct {
	*wire.Conn
	leave func() bool // the context
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
