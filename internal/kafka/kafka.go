// Package kafka is how every program of this repository connects to Kafka: the brokers, TLS and
// SASL come from the environment, the sarama settings from one place, and a fault that a person has
// to mend comes as one clear sentence.
package kafka

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/Shopify/sarama"
)

const (
	// DefaultTopic is the topic of the chat.
	DefaultTopic = "chat"
	// defaultBroker is where `go run ./chatserver` has its embedded broker.
	defaultBroker = "localhost:9092"
)

const (
	dialTimeout = 3 * time.Second // for a TCP connection, and once more for the TLS handshake on it

	// ioTimeout bounds one request. A connection that has gone silent costs about this much before
	// sarama makes a new one.
	ioTimeout = 3 * time.Second
	// produceTimeout is less than ioTimeout, so that the broker's answer comes before the socket is
	// given up.
	produceTimeout = 2 * time.Second
	// maxWait is how long a fetch waits for a first record. Data ends the wait at once, so it costs
	// no latency; it bounds how long it takes to close a consumer.
	maxWait = 250 * time.Millisecond

	// backoff is the pause between two attempts at something that failed.
	backoff = 100 * time.Millisecond
	// metadataRetries times backoff is how long sarama looks for a leader before it reports an
	// error: "for ever", because three such errors within ten seconds open its circuit breaker, and
	// then it sends nothing for ten seconds.
	metadataRetries = 1000
	// metadataTimeout is never reached by these. It is there so that a pause beyond it calls off
	// the rest of them.
	metadataTimeout = 100 * time.Hour
	// metadataRefresh finds dead connections to bootstrap brokers and keeps live ones from idling
	// out.
	metadataRefresh = time.Second
)

// Cluster is a Kafka cluster and how to connect to it. It may be used by several goroutines; its
// fields must not be changed once it is in use.
type Cluster struct {
	// Brokers are the bootstrap brokers, host:port.
	Brokers []string
	// BrokerInside says that this program has a broker inside while KAFKA_BROKER is unset.
	BrokerInside bool

	tls   *tls.Config // nil: plain text
	sasl  sasl        // without a mechanism: none
	inPod bool        // the program runs in Kubernetes
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
	config.Net.Proxy.Dialer = &dialer{ctx, c}
	config.Net.DialTimeout = dialTimeout
	config.Net.ReadTimeout = ioTimeout
	config.Net.WriteTimeout = ioTimeout
	config.Net.MaxOpenRequests = 1
	c.sasl.apply(config)

	// Only topics that are asked for, and no failure to start while the broker is away.
	config.Metadata.Full = false
	config.Metadata.AllowAutoTopicCreation = false
	config.Metadata.RefreshFrequency = metadataRefresh
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
	config.Producer.Retry.Backoff = backoff
	config.Producer.Partitioner = sarama.NewManualPartitioner
	// With key and headers; what brokers take by default (message.max.bytes), but for a batch's
	// head.
	config.Producer.MaxMessageBytes = 1 << 20
	config.Producer.Return.Successes = true // a SyncProducer needs both
	config.Producer.Return.Errors = true

	config.Consumer.MaxWaitTime = maxWait
	config.Consumer.MaxProcessingTime = maxWait
	config.Consumer.Retry.Backoff = backoff
	config.Consumer.Return.Errors = true
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
