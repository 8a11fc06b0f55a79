// Package kafka connects every program of this repository to Kafka. The brokers, TLS and SASL come
// from the environment, and the sarama settings from one place. A fault that an operator has to
// correct comes as one clear sentence.
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
	// defaultBroker is the address of the embedded broker of `go run ./chatserver`.
	defaultBroker = "localhost:9092"
)

const (
	dialTimeout = 3 * time.Second // for a connection, with its TLS handshake
	ioTimeout   = 3 * time.Second // for one request
	// produceTimeout is less than ioTimeout: the broker answers before the client gives up.
	produceTimeout = 2 * time.Second
	// backoff is the pause between two attempts at something that failed.
	backoff = 100 * time.Millisecond
	// metadataRetries times backoff is how long sarama looks for a leader before it reports an
	// error. The time is long, because three such errors within ten seconds open sarama's circuit
	// breaker, and sarama then sends nothing for ten seconds.
	metadataRetries = 1000
	// metadataTimeout is longer than all retries. A pause beyond it ends the retries.
	metadataTimeout = 100 * time.Hour
)

// Cluster is a Kafka cluster and how to connect to it. Several goroutines may use a Cluster. Its
// fields must not change once it is in use.
type Cluster struct {
	// Brokers are the bootstrap brokers, host:port.
	Brokers []string

	tls                       *tls.Config // nil: plain text
	mechanism, user, password string      // of SASL; no mechanism: no login
	inPod                     bool        // the program runs in Kubernetes
}

// Config returns new settings for one sarama client. When ctx ends, the client's connections are
// closed, the client gets no new ones, and it no longer pauses between attempts: closing the client
// is quick, whatever state the cluster is in. A producer and a consumer must not share a client: a
// consumer's fetch holds the broker's lock while it waits for records. The caller may change the
// settings before the first use only.
func (c *Cluster) Config(ctx context.Context, clientID string) *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = clientID
	// Sarama does not negotiate versions. Brokers from 2.3 to 4.x understand the requests of 2.8.
	config.Version = sarama.V2_8_0_0
	config.ApiVersionsRequest = false
	config.ChannelBufferSize = 256

	config.Net.Proxy.Enable = true // not a proxy: sarama has no other hook for a dialer
	config.Net.Proxy.Dialer = &dialer{ctx, c.tls, nil}
	config.Net.ReadTimeout = ioTimeout
	config.Net.WriteTimeout = ioTimeout
	config.Net.MaxOpenRequests = 1
	c.login(config)

	// Sarama asks only for topics in use, and a client can start while the broker is away.
	config.Metadata.Full = false
	config.Metadata.AllowAutoTopicCreation = false
	config.Metadata.RefreshFrequency = 5 * time.Second // finds dead connections, and keeps live ones from idling out
	config.Metadata.Retry.Max = metadataRetries
	config.Metadata.Timeout = metadataTimeout
	config.Metadata.Retry.BackoffFunc = func(int, int) time.Duration {
		// This function waits itself, and returns 0. After a pause of its own sarama gives up if another
		// goroutine has asked for metadata meanwhile, and that error counts for the circuit breaker.
		pause := time.NewTimer(backoff)
		defer pause.Stop()
		select {
		case <-pause.C:
			return 0
		case <-ctx.Done():
			// The retries end: sarama does not begin a pause that goes beyond the timeout. (Look-ups
			// for consumer groups and transactions would, but no program here has any.)
			return 2 * metadataTimeout
		}
	}

	// Sarama's producer must not retry. Its retries were measured to double and reorder records, and,
	// if idempotent with several requests under way, to lose them. The sender must find out whether a
	// failed record is in the topic.
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Timeout = produceTimeout
	config.Producer.Retry.Max = 0
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = 1 << 20 // the brokers' default, less a batch's header
	config.Producer.Return.Successes = true   // a SyncProducer needs both
	config.Producer.Return.Errors = true

	config.Consumer.MaxWaitTime = time.Second // less than ioTimeout; a first record ends the wait at once
	// A transaction that a producer left open must not stop the readers.
	config.Consumer.IsolationLevel = sarama.ReadUncommitted
	return config
}

// A fault tells an operator in one sentence what to correct. Explain adds nothing to a fault.
type fault struct {
	text  string
	cause error
}

func newFault(cause error, format string, args ...any) *fault {
	return &fault{fmt.Sprintf(format, args...), cause}
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.cause }

// A dialer makes all connections of one client. The connections end with ctx.
type dialer struct {
	ctx     context.Context
	tls     *tls.Config          // nil: plain text
	fetched func(batches []byte) // see wire.NewConn
}

// Dial connects to a broker, and does the TLS handshake: that of sarama has no deadline.
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
		// Nothing that is still in the send buffer goes out. The code that ended the context decides
		// what happens to a request under way.
		raw.(*net.TCPConn).SetLinger(0)
		raw.Close() // closing made could wait to send the last alert of TLS
	})}, nil
}

// A conn ends with its dialer's context.
type conn struct {
	*wire.Conn
	leave func() bool // ends the tie to the context
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
