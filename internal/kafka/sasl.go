package kafka

import (
	"errors"
	"fmt"

	"github.com/Shopify/sarama"
	"github.com/xdg-go/scram"
)

// sasl is how to log in.
type sasl struct {
	mechanism, username, password string // mechanism is empty if there is no login
}

func saslFromEnv(getenv func(string) string) (sasl, error) {
	s := sasl{getenv("KAFKA_SASL_MECHANISM"), getenv("KAFKA_SASL_USERNAME"), getenv("KAFKA_SASL_PASSWORD")}
	const valid = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
	switch s.mechanism {
	case sarama.SASLTypePlaintext, sarama.SASLTypeSCRAMSHA256, sarama.SASLTypeSCRAMSHA512:
		if s.username == "" || s.password == "" {
			return sasl{}, fmt.Errorf("KAFKA_SASL_MECHANISM=%q needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", s.mechanism)
		}
	case "":
		if s.username+s.password != "" {
			return sasl{}, errors.New("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD have no effect without KAFKA_SASL_MECHANISM: " + valid)
		}
	default:
		return sasl{}, fmt.Errorf("KAFKA_SASL_MECHANISM=%q: valid is %s", s.mechanism, valid)
	}
	return s, nil
}

func (s sasl) apply(config *sarama.Config) {
	if s.mechanism == "" {
		return
	}
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLMechanism(s.mechanism)
	config.Net.SASL.User = s.username
	config.Net.SASL.Password = s.password
	config.Net.SASL.Version = sarama.SASLHandshakeV1 // brokers from 4.0 on know no other
	config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
		if s.mechanism == sarama.SASLTypeSCRAMSHA512 {
			return &scramClient{hash: scram.SHA512}
		}
		return &scramClient{hash: scram.SHA256}
	}
}

// Insecure returns a sentence if the password goes over the network for everybody to read, nil if
// not.
func (c *Cluster) Insecure() error {
	if c.sasl.mechanism != sarama.SASLTypePlaintext || c.tls != nil {
		return nil
	}
	return newFault(nil, "KAFKA_SASL_MECHANISM=PLAIN without KAFKA_TLS=true sends the password of user %q over the network in the clear: use TLS, or SCRAM-SHA-512", c.sasl.username)
}

// explain turns a refused login into a sentence; any other error is returned as it is.
func (s sasl) explain(err error, broker string) error {
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return newFault(err, "the broker at %s refuses user %q (%s): wrong KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD",
			broker, s.username, s.mechanism)
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return newFault(err, "the broker at %s does not offer KAFKA_SASL_MECHANISM=%s", broker, s.mechanism)
	case errors.Is(err, sarama.ErrIllegalSASLState):
		return newFault(err, "the broker at %s wants no login on this port: unset KAFKA_SASL_MECHANISM, or use its SASL port", broker)
	}
	return err
}

// scramClient is one SCRAM exchange (RFC 5802), in the shape that sarama asks for.
type scramClient struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

func (c *scramClient) Begin(username, password, authzID string) error {
	client, err := c.hash.NewClient(username, password, authzID)
	if err == nil {
		c.ClientConversation = client.NewConversation()
	}
	return err
}
