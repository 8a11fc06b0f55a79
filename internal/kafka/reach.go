package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
)

// questions sends requests on connections of its own, which end with the context of ask. Unlike
// sarama's clients, questions does not wait until the cluster's state changes.
type questions struct {
	*Cluster
	config *sarama.Config
}

func (c *Cluster) ask(ctx context.Context) (q questions, done context.CancelFunc) {
	ctx, done = context.WithCancel(ctx)
	return questions{c, c.Config(ctx, "kafkachat-admin")}, done
}

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that the first one
// advertises. Its error says in one sentence which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	q, done := c.ask(ctx)
	defer done()
	// Any topic will do: without one, the answer has all topics of the cluster.
	metadata, err := q.metadata(DefaultTopic)
	if err == nil {
		return q.advertised(metadata, func(*sarama.Broker) error { return nil })
	}
	return c.Hint(err)
}

// Hint returns err. If no broker has answered, and a web server is at one of the addresses, the
// error says so. Hint takes at most a second.
func (c *Cluster) Hint(err error) error {
	if silent := net.Error(nil); errors.As(err, &silent) && silent.Timeout() {
		client := http.Client{Timeout: time.Second / time.Duration(len(c.Brokers))}
		for _, addr := range c.Brokers { // a broker that answers never gets an HTTP request
			if page, failed := client.Get("http://" + addr); failed == nil {
				page.Body.Close()
				return newFault(err, "%v; a web server is at %s, and a broker's port is usually 9092", err, addr)
			}
		}
	}
	return err
}

// metadata asks a bootstrap broker about the brokers and these topics (none: all topics).
func (q questions) metadata(topics ...string) (response *sarama.MetadataResponse, err error) {
	var brokers []*sarama.Broker
	for _, addr := range q.Brokers {
		brokers = append(brokers, sarama.NewBroker(addr))
	}
	mend := "correct KAFKA_BROKER, or start a broker (while KAFKA_BROKER is not set, `go run ./chatserver` has one inside)"
	if q.inPod {
		mend = "KAFKA_BROKER must name a Service of this cluster that has a broker (kubectl get endpoints)"
	}
	err = q.first(brokers, "no Kafka broker at %s: %s", mend, func(broker *sarama.Broker) (err error) {
		response, err = broker.GetMetadata(sarama.NewMetadataRequest(q.config.Version, topics))
		return err
	})
	return response, err
}

// advertised calls do with one broker of metadata after another until do succeeds.
func (q questions) advertised(metadata *sarama.MetadataResponse, do func(*sarama.Broker) error) error {
	sentence := "the broker at " + strings.Join(q.Brokers, ", ") + " answers, but sends its clients to %s, which cannot be reached from here: %s"
	return q.first(metadata.Brokers, sentence, "correct its advertised.listeners", do)
}

// first connects to one broker after another until do succeeds. If do never succeeds, the error is
// sentence, with the brokers that were tried, the reason of each, and what corrects the fault.
func (q questions) first(brokers []*sarama.Broker, sentence, mend string, do func(*sarama.Broker) error) error {
	var tried []string
	cause := error(sarama.ErrBrokerNotFound)
	for _, broker := range brokers {
		err := broker.Open(q.config)
		if err == nil {
			_, err = broker.Connected()
		}
		if err == nil {
			err = do(broker)
			broker.Close()
		}
		if err == nil {
			return nil
		}
		reason, better := q.reason(err, broker.Addr())
		tried = append(tried, broker.Addr()+" ("+reason+")")
		mend, cause = cmp.Or(better, mend), err
	}
	return newFault(cause, sentence, strings.Join(tried, ", "), mend)
}

// reason says in plain words why a broker could not be reached. Mend says what corrects that; it is
// "" if there are several ways.
func (q questions) reason(err error, addr string) (reason, mend string) {
	var (
		unresolved  *net.DNSError
		certificate *tls.CertificateVerificationError
		alert       *net.OpError
		packet      sarama.PacketDecodingError
		network     net.Error
	)
	switch {
	case errors.As(err, &unresolved) && q.inPod:
		return "the name is not known in this cluster", "it must be the name of a Service (kubectl get services)"
	case errors.As(err, &unresolved):
		host, _, _ := net.SplitHostPort(addr)
		return "this machine does not know the name", fmt.Sprintf("correct the name, or add the line \"127.0.0.1 %s\" (with the broker's address, "+
			"if it runs on another machine) to /etc/hosts (Windows: C:\\Windows\\System32\\drivers\\etc\\hosts)", host)
	case errors.As(err, &certificate):
		return "its certificate is not accepted: " + certificate.Err.Error(), "set KAFKA_TLS_CA to the authority that signed it, and KAFKA_TLS_SERVER_NAME to a name in it"
	case errors.As(err, &alert) && alert.Op == "remote error":
		return "it refuses this client's certificate: " + alert.Err.Error(), "set KAFKA_TLS_CERT and KAFKA_TLS_KEY to one that it accepts"
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed), errors.Is(err, sarama.ErrUnsupportedSASLMechanism), errors.Is(err, sarama.ErrIllegalSASLState):
		return fmt.Sprintf("it refuses the login of user %q by %s: %v", q.user, q.mechanism, err),
			"correct KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM, or use the port for logins"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		if q.tls != nil {
			return "it closes the connection", "the broker may speak plain text on this port (unset KAFKA_TLS), or KAFKA_SASL_MECHANISM may be missing or wrong"
		}
		return "it closes the connection", "KAFKA_TLS or KAFKA_SASL_MECHANISM may be missing or wrong"
	case errors.As(err, &packet):
		return "its answer is not Kafka's", "a broker's port is usually 9092"
	case errors.Is(err, syscall.ECONNREFUSED):
		return syscall.ECONNREFUSED.Error(), ""
	case errors.As(err, &network) && network.Timeout():
		return "no answer", ""
	}
	return err.Error(), ""
}
