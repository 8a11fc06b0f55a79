package kafka

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/Shopify/sarama"
	"github.com/xdg-go/scram"
)

// A Variable is an environment variable, with its text for the manuals.
type Variable struct {
	Name    string
	Meaning string
}

// Variables lists the variables that FromEnv reads.
func Variables() []Variable {
	return []Variable{
		{"KAFKA_BROKER", "brokers to ask first, each host:port, separated by commas (port 9092 if not given)"},
		{"KAFKA_TLS", "true: connect with TLS"},
		{"KAFKA_TLS_CA", "PEM file of the authority that signed the brokers' certificates (else the system's)"},
		{"KAFKA_TLS_CERT", "PEM file of this client's certificate, if the brokers ask for one"},
		{"KAFKA_TLS_KEY", "PEM file of this client's private key"},
		{"KAFKA_TLS_SERVER_NAME", "name expected in the brokers' certificates (else the one connected to)"},
		{"KAFKA_SASL_MECHANISM", "how to log in to the brokers: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"},
		{"KAFKA_SASL_USERNAME", "user name for the login"},
		{"KAFKA_SASL_PASSWORD", "password for the login"},
	}
}

// Topic returns the topic that TOPIC names, or DefaultTopic if TOPIC is not set.
func Topic(getenv func(string) string) (string, error) {
	topic := getenv("TOPIC")
	if topic == "" {
		return DefaultTopic, nil
	}
	const longest = 249 // Kafka's limit
	if err := CheckTopic(topic, longest); err != nil {
		return "", fmt.Errorf("TOPIC=%q: %w", topic, err)
	}
	return topic, nil
}

// CheckTopic returns an error if Kafka would refuse this name of a topic, or if the name is longer
// than longest. The error says what is valid. A caller that adds to the name passes less than 249.
func CheckTopic(name string, longest int) error {
	outside := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
	if outside != "" || name == "" || len(name) > longest || name == "." || name == ".." {
		return fmt.Errorf("valid are 1 to %d letters, digits, dots, underscores and hyphens", longest)
	}
	return nil
}

// FromEnv returns the cluster that the environment describes. The default is localhost in plain
// text. An error names the variable, its value and what would be valid.
func FromEnv(getenv func(string) string) (*Cluster, error) {
	c := &Cluster{inPod: getenv("KUBERNETES_SERVICE_HOST") != "", mechanism: getenv("KAFKA_SASL_MECHANISM"),
		user: getenv("KAFKA_SASL_USERNAME"), password: getenv("KAFKA_SASL_PASSWORD")}
	var brokers, secure, login error
	c.Brokers, brokers = parseBrokers(getenv("KAFKA_BROKER"))
	if slip := getenv("KAFKA_BROKERS"); slip != "" && getenv("KAFKA_BROKER") == "" {
		brokers = fmt.Errorf("KAFKA_BROKERS=%q is not read: the variable is KAFKA_BROKER", slip)
	}
	c.tls, secure = tlsFromEnv(getenv)
	switch c.mechanism {
	case "":
	case sarama.SASLTypePlaintext, sarama.SASLTypeSCRAMSHA256, sarama.SASLTypeSCRAMSHA512:
		if c.user == "" || c.password == "" {
			login = fmt.Errorf("KAFKA_SASL_MECHANISM=%q needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", c.mechanism)
		}
	default:
		login = fmt.Errorf("KAFKA_SASL_MECHANISM=%q: valid is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.mechanism)
	}
	return c, cmp.Or(brokers, secure, login)
}

func parseBrokers(list string) (brokers []string, err error) {
	for entry := range strings.SplitSeq(cmp.Or(list, defaultBroker), ",") {
		host, port, err := net.SplitHostPort(strings.TrimSpace(entry))
		if err != nil { // the entry has no port, or is invalid
			host, port = strings.Trim(entry, " []"), "9092"
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ \t") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("KAFKA_BROKER=%q: %q is no host:port; valid is host:port, several with commas, ports from 1 to 65535, e.g. %q",
				list, entry, "kafka-0:9092,kafka-1:9092")
		}
		brokers = append(brokers, net.JoinHostPort(host, port))
	}
	return brokers, nil
}

func tlsFromEnv(getenv func(string) string) (*tls.Config, error) {
	value := getenv("KAFKA_TLS")
	on, err := strconv.ParseBool(cmp.Or(value, "false"))
	if err != nil {
		return nil, fmt.Errorf("KAFKA_TLS=%q: valid is true or false", value)
	}
	if !on {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: getenv("KAFKA_TLS_SERVER_NAME")}
	if ca := getenv("KAFKA_TLS_CA"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CA=%q: %w", ca, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("KAFKA_TLS_CA=%q: there is no certificate in this file; valid is a PEM file", ca)
		}
	}
	if cert, key := getenv("KAFKA_TLS_CERT"), getenv("KAFKA_TLS_KEY"); cert+key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CERT=%q, KAFKA_TLS_KEY=%q: %w; valid are two PEM files that belong together", cert, key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// login makes the client log in, if the environment names a mechanism.
func (c *Cluster) login(config *sarama.Config) {
	sasl := &config.Net.SASL
	sasl.Enable = c.mechanism != ""
	sasl.Mechanism, sasl.User, sasl.Password = sarama.SASLMechanism(c.mechanism), c.user, c.password
	sasl.Version = sarama.SASLHandshakeV1 // brokers from 4.0 on accept no other
	sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
		if c.mechanism == sarama.SASLTypeSCRAMSHA512 {
			return &scramClient{hash: scram.SHA512}
		}
		return &scramClient{hash: scram.SHA256}
	}
}

// Insecure returns an error if the password goes over the network in the clear.
func (c *Cluster) Insecure() error {
	if c.mechanism != sarama.SASLTypePlaintext || c.tls != nil {
		return nil
	}
	return newFault(nil, "KAFKA_SASL_MECHANISM=PLAIN without KAFKA_TLS=true sends the password of user %q over the network in the clear: use TLS, or SCRAM-SHA-512", c.user)
}

// scramClient is one SCRAM exchange (RFC 5802). It implements sarama.SCRAMClient.
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
