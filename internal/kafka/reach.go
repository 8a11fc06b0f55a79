package kafka

import (
	"context"
	"crypto/tls"
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

// Questions are asked on connections of their own, which end with ctx.
type questions struct {
	*Cluster
	ctx    context.Context
	config *sarama.Config
}

func (c *Cluster) ask(ctx context.Context) (q questions, done context.CancelFunc) {
	ctx, done = context.WithCancel(ctx)
	return questions{c, ctx, c.Config(ctx, "kafkachat-admin")}, done
}

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that this one
// advertises. Its error is one sentence that says which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	q, done := c.ask(ctx)
	defer done()
	// Any one: without a topic the answer has all of the cluster's.
	metadata, err := q.metadata(DefaultTopic)
	if err == nil {
		return q.advertised(metadata, func(*sarama.Broker) error { return nil })
	}
	// A broker that has answered is never asked whether it is a web server.
	if silent := net.Error(nil); errors.As(err, &silent) && silent.Timeout() && slices.ContainsFunc(c.Brokers, speaksHTTP) {
		err = newFault(err, "%v; a web server is there, and a broker's port is usually 9092", err)
	}
	return err
}

// advertised has the first do something of those brokers that metadata has and that answer.
func (q questions) advertised(metadata *sarama.MetadataResponse, do func(*sarama.Broker) error) error {
	tried, err := q.first(metadata.Brokers, do)
	if tried != "" {
		err = newFault(err, "the broker at %s answers, but sends its clients to %s, where nobody can be reached from here: correct its advertised.listeners",
			strings.Join(q.Brokers, ", "), tried)
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
func (q questions) metadata(topics ...string) (response *sarama.MetadataResponse, err error) {
	var brokers []*sarama.Broker
	for _, addr := range q.Brokers {
		brokers = append(brokers, sarama.NewBroker(addr))
	}
	tried, err := q.first(brokers, func(broker *sarama.Broker) (err error) {
		response, err = broker.GetMetadata(sarama.NewMetadataRequest(q.config.Version, topics))
		return err
	})
	if tried == "" {
		return response, err
	}
	advice := "start one with `go run ./chatserver`, or set KAFKA_BROKER"
	switch {
	case q.inPod:
		advice = "KAFKA_BROKER must name a Service of this cluster that has a broker (kubectl get endpoints)"
	case q.BrokerInside:
		advice = "start it, correct KAFKA_BROKER, or unset KAFKA_BROKER to have a broker inside"
	}
	return nil, newFault(err, "no Kafka broker at %s: %s", tried, advice)
}

// first connects to one broker after another until do succeeds with one. Else it returns which were
// tried, each with the reason why it was not reached, or a fault, which says everything.
func (q questions) first(brokers []*sarama.Broker, do func(*sarama.Broker) error) (string, error) {
	var tried []string
	var said, err error
	for _, broker := range brokers {
		if err = broker.Open(q.config); err == nil {
			_, err = broker.Connected()
		}
		if err == nil {
			err = do(broker)
			broker.Close()
		}
		if err == nil {
			return "", nil
		}
		err = q.explain(err, broker.Addr())
		if f := new(fault); errors.As(err, &f) {
			said = f
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", broker.Addr(), reason(q.ctx, err)))
	}
	if said != nil {
		return "", said
	}
	return strings.Join(tried, ", "), err
}

const hostsFile = `/etc/hosts (Windows: C:\Windows\System32\drivers\etc\hosts)`

// explain makes a sentence of an error of connecting to a broker that a person has to mend. Other
// errors are returned as they are.
func (c *Cluster) explain(err error, addr string) error {
	var (
		unresolved  *net.DNSError
		certificate *tls.CertificateVerificationError
		alert       *net.OpError
	)
	switch {
	case errors.As(err, &unresolved):
		from := "a broker's advertised.listeners"
		if slices.Contains(c.Brokers, addr) {
			from = "KAFKA_BROKER"
		}
		host, _, _ := net.SplitHostPort(addr)
		if c.inPod {
			return newFault(err, "%s says %s, and the name %q is not known in this cluster: it must be that of a Service (kubectl get services)",
				from, addr, host)
		}
		return newFault(err, "%s says %s, and this machine cannot resolve the name %q: correct it, or add the line \"127.0.0.1 %s\" "+
			"(with the broker's address, if it runs on another machine) to %s", from, addr, host, host, hostsFile)
	case errors.As(err, &certificate):
		return newFault(err, "the certificate of the broker at %s is not accepted (%v): KAFKA_TLS_CA is to name who signed it, and KAFKA_TLS_SERVER_NAME a name in it",
			addr, certificate.Err)
	case errors.As(err, &alert) && alert.Op == "remote error":
		return newFault(err, "the broker at %s refuses this client's certificate (%v): set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts", addr, alert.Err)
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed), errors.Is(err, sarama.ErrUnsupportedSASLMechanism), errors.Is(err, sarama.ErrIllegalSASLState):
		return newFault(err, "the broker at %s does not take the login of user %q by %s (%v): correct KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM, "+
			"or use the port that wants it", addr, c.sasl.username, c.sasl.mechanism, err)
	}
	return err
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
