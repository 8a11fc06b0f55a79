package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
)

// adminID names the client that asks what follows.
const adminID = "kafkachat-admin"

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that this one
// advertises. Its error is one sentence that says which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.Config(ctx, adminID)
	// Any one: without a topic the answer has all of the cluster's.
	metadata, err := c.metadata(ctx, config, DefaultTopic)
	if err != nil {
		// A broker that has answered is never asked that.
		if silent := net.Error(nil); errors.As(err, &silent) && silent.Timeout() && slices.ContainsFunc(c.Brokers, speaksHTTP) {
			err = newFault(err, "%v; a web server is there, and a broker's port is usually 9092", err)
		}
		return err
	}
	tried, err := c.first(ctx, config, metadata.Brokers, func(*sarama.Broker) error { return nil })
	if tried != "" {
		err = newFault(err, "the broker at %s answers, but sends its clients to %s, where nobody can be reached from here: correct its advertised.listeners",
			strings.Join(c.Brokers, ", "), tried)
	}
	return err
}

// speaksHTTP says whether a web server is at addr: the page's port is easily taken for the
// broker's.
func speaksHTTP(addr string) bool {
	response, err := (&http.Client{Timeout: time.Second}).Get("http://" + addr)
	if err != nil {
		return false
	}
	response.Body.Close()
	return true
}

// metadata asks the first bootstrap broker that answers about the brokers and topics (none: all). It
// does not wait for anything to change, as sarama's clients do.
func (c *Cluster) metadata(ctx context.Context, config *sarama.Config, topics ...string) (response *sarama.MetadataResponse, err error) {
	var brokers []*sarama.Broker
	for _, addr := range c.Brokers {
		brokers = append(brokers, sarama.NewBroker(addr))
	}
	tried, err := c.first(ctx, config, brokers, func(broker *sarama.Broker) (err error) {
		response, err = broker.GetMetadata(sarama.NewMetadataRequest(config.Version, topics))
		return err
	})
	if tried == "" {
		return response, err
	}
	advice := "start one with `go run ./chatserver`, or set KAFKA_BROKER"
	switch {
	case c.inPod:
		advice = "KAFKA_BROKER must name a Service of this cluster that has a broker (kubectl get endpoints)"
	case c.BrokerInside:
		advice = "start it, correct KAFKA_BROKER, or unset KAFKA_BROKER to have a broker inside"
	}
	return nil, newFault(err, "no Kafka broker at %s: %s", tried, advice)
}

// first connects to one broker after another until do succeeds with one. Else it returns which were
// tried, each with the reason why it was not reached, or a fault, which says everything.
func (c *Cluster) first(ctx context.Context, config *sarama.Config, brokers []*sarama.Broker, do func(*sarama.Broker) error) (string, error) {
	var tried []string
	var said, err error
	for _, broker := range brokers {
		if err = broker.Open(config); err == nil {
			_, err = broker.Connected()
		}
		if err == nil {
			err = do(broker)
			broker.Close()
		}
		if err == nil {
			return "", nil
		}
		err = c.sasl.explain(err, broker.Addr())
		if f := new(fault); errors.As(err, &f) {
			said = f
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", broker.Addr(), reason(ctx, err)))
	}
	if said != nil {
		return "", said
	}
	return strings.Join(tried, ", "), err
}

// reason is the part of a network error that tells a person something.
func reason(ctx context.Context, err error) string {
	var network net.Error
	switch {
	case ctx.Err() == context.Canceled:
		return "stopped"
	case errors.Is(err, syscall.ECONNREFUSED):
		return syscall.ECONNREFUSED.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closes the connection; KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong"
	case errors.As(err, &network) && network.Timeout():
		return "no answer"
	}
	return err.Error()
}
