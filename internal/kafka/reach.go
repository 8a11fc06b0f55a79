package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
)

// adminConfig is for the requests below. They return their errors, so nobody is warned of them
// besides.
func (c *Cluster) adminConfig(ctx context.Context) *sarama.Config {
	return c.config(ctx, "kafkachat-admin", func(error) {}, nil)
}

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that this one
// advertises. Its error is one sentence that says which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.adminConfig(ctx)
	// Any one: without a topic the answer has all of the cluster's.
	metadata, err := c.metadata(ctx, config, DefaultTopic)
	if err != nil {
		return err
	}
	tried, err := c.first(ctx, config, metadata.Brokers, func(*sarama.Broker) error { return nil })
	if tried == "" {
		return err
	}
	return newFault(err, "the broker at %s answers, but sends its clients to %s, where nobody can be reached from here: correct its advertised.listeners",
		strings.Join(c.Brokers, ", "), tried)
}

// metadata asks the first bootstrap broker that answers about the brokers and topic ("": all). It
// does not wait for anything to change, as sarama's clients do.
func (c *Cluster) metadata(ctx context.Context, config *sarama.Config, topic string) (response *sarama.MetadataResponse, err error) {
	var topics []string
	if topic != "" {
		topics = []string{topic}
	}
	var brokers []*sarama.Broker
	for _, addr := range c.Brokers {
		brokers = append(brokers, sarama.NewBroker(addr))
	}
	tried, err := c.first(ctx, config, brokers, func(broker *sarama.Broker) (err error) {
		response, err = broker.GetMetadata(sarama.NewMetadataRequest(config.Version, topics))
		return err
	})
	return response, c.unreachable(tried, err)
}

// first connects to one broker after another until do succeeds with one. Else it returns which were
// tried, each with the reason why it was not reached, or a fault, which says everything.
func (c *Cluster) first(ctx context.Context, config *sarama.Config, brokers []*sarama.Broker, do func(*sarama.Broker) error) (tried string, err error) {
	failed := make([]error, len(brokers))
	for i, broker := range brokers {
		if failed[i] = connect(broker, config); failed[i] == nil {
			failed[i] = do(broker)
			broker.Close()
		}
		if failed[i] == nil {
			c.isWeb(broker.Addr(), func() bool { return false })
			return "", nil
		}
	}
	var list []string
	for i, broker := range brokers {
		err = c.sasl.explain(failed[i], broker.Addr())
		if f := new(fault); errors.As(err, &f) {
			return "", f
		}
		why := reason(ctx, err)
		if why == noAnswer && c.isWeb(broker.Addr(), func() bool { return speaksHTTP(ctx, broker.Addr()) }) {
			why = "a web server is there; a broker's port is usually 9092"
		}
		list = append(list, fmt.Sprintf("%s (%s)", broker.Addr(), why))
	}
	return strings.Join(list, ", "), err
}

// connect opens the connection and waits for it.
func connect(broker *sarama.Broker, config *sarama.Config) error {
	if err := broker.Open(config); err != nil {
		return err
	}
	_, err := broker.Connected()
	return err
}

// unreachable makes one sentence of what first has returned.
func (c *Cluster) unreachable(tried string, err error) error {
	if tried == "" {
		return err
	}
	advice := "start one with `go run ./chatserver`, or set KAFKA_BROKER"
	switch {
	case c.inPod:
		advice = "KAFKA_BROKER must name a Service of this cluster that has a broker (kubectl get endpoints)"
	case c.BrokerInside:
		advice = "start it, correct KAFKA_BROKER, or unset KAFKA_BROKER to have a broker inside"
	}
	return newFault(err, "no Kafka broker at %s: %s", tried, advice)
}

// isWeb says whether a web server is at addr. That is found out once for each address, since the
// question is no request of Kafka's: a broker that has answered before is never asked it.
func (c *Cluster) isWeb(addr string, find func() bool) bool {
	c.mu.Lock()
	web, known := c.web[addr]
	c.mu.Unlock()
	if known {
		return web
	}
	web = find()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.web == nil {
		c.web = make(map[string]bool)
	}
	c.web[addr] = web
	return web
}

// speaksHTTP says whether a web server is at addr: the page's port is easily taken for the
// broker's.
func speaksHTTP(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	answer := make([]byte, 5)
	io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == "HTTP/"
}

const noAnswer = "no answer"

// reason is the part of a network error that tells a person something.
func reason(ctx context.Context, err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case ctx.Err() == context.Canceled:
		return "stopped"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closes the connection; KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return noAnswer
	}
	return err.Error()
}
