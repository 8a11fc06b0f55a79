package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/Shopify/sarama"
)

// A Kind of error says whether trying again can help.
type Kind int

const (
	Unknown   Kind = iota // nobody knows: try again, ever more seldom, and say why
	Passing               // it passes by itself: try again
	Permanent             // a person has to change something first: say so and stop
)

// kinds is the table of Kafka's errors. What is not in it is Unknown.
func kinds(code sarama.KError) Kind {
	switch code {
	case sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable,
		sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException, sarama.ErrOffsetsLoadInProgress,
		sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrNotController,
		sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrOffsetNotAvailable,
		sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer, sarama.ErrPreferredLeaderNotAvailable,
		sarama.ErrThrottlingQuotaExceeded, sarama.ErrKafkaStorageError, sarama.ErrUnknownTopicOrPartition:
		return Passing
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrGroupAuthorizationFailed,
		sarama.ErrTransactionalIDAuthorizationFailed, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedSASLMechanism,
		sarama.ErrIllegalSASLState, sarama.ErrInvalidTopic, sarama.ErrInvalidConfig, sarama.ErrInvalidPartitions,
		sarama.ErrPolicyViolation, sarama.ErrUnsupportedVersion, sarama.ErrUnsupportedForMessageFormat,
		sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidMessageSize, sarama.ErrInvalidTimestamp, sarama.ErrInvalidRecord,
		sarama.ErrInvalidRequiredAcks, sarama.ErrMessageSetSizeTooLarge, sarama.ErrSecurityDisabled:
		return Permanent
	}
	return Unknown
}

// KindOf returns the kind of an error, however often it is wrapped.
func KindOf(err error) Kind {
	var (
		code          sarama.KError
		configuration sarama.ConfigurationError
		network       net.Error
	)
	switch {
	case errors.As(err, &code):
		return kinds(code)
	case errors.As(err, &configuration):
		return Permanent // sarama found, before it sent anything, that Kafka would refuse
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, sarama.ErrOutOfBrokers), errors.Is(err, sarama.ErrBrokerNotFound), errors.Is(err, sarama.ErrNotConnected),
		errors.Is(err, errLeader), errors.Is(err, errStalled):
		return Passing
	}
	return Unknown
}

// NotAllowed says whether Kafka has refused something for want of a right, or refused the login.
func NotAllowed(err error) bool {
	for _, code := range []sarama.KError{sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed,
		sarama.ErrGroupAuthorizationFailed, sarama.ErrTransactionalIDAuthorizationFailed, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedSASLMechanism} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// An Action on a topic, by the name of the right that Kafka wants for it.
type Action string

const (
	Read   Action = "READ"
	Write  Action = "WRITE"
	Look   Action = "DESCRIBE"
	Create Action = "CREATE"
)

// Explain makes a sentence of an error that Kafka returned for an action on a topic: it names the
// topic, and the right that is missing or the rule that is broken. Other errors are returned as
// they are.
func (c *Cluster) Explain(err error, action Action, topic string) error {
	if f := new(fault); errors.As(err, &f) || err == nil {
		return err
	}
	var code sarama.KError
	if !errors.As(err, &code) {
		return err
	}
	rule := ""
	switch code {
	case sarama.ErrTopicAuthorizationFailed:
		return newFault(err, "%s must not %s topic %q: its administrator can grant the right %s on it (Kafka: %s)", c.who(), verbs(action), topic, action, words(err))
	case sarama.ErrClusterAuthorizationFailed:
		return newFault(err, "%s must not %s topic %q: the cluster's administrator can grant the right %s (Kafka: %s)", c.who(), verbs(action), topic, action, words(err))
	case sarama.ErrInvalidTopic:
		rule = "Kafka does not take this name"
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge:
		rule = "a record is larger than its max.message.bytes"
	case sarama.ErrInvalidTimestamp:
		rule = "a record's time is too far from the broker's clock"
	case sarama.ErrInvalidRecord:
		rule = "a record breaks a rule of it (a compacted topic wants keys)"
	case sarama.ErrPolicyViolation:
		rule = "a policy of the cluster forbids this"
	case sarama.ErrUnsupportedVersion, sarama.ErrUnsupportedForMessageFormat:
		rule = "the brokers are too old or too new for this program, which knows Kafka 2.3 to 4.x"
	case sarama.ErrUnknownTopicOrPartition:
		rule = "it does not exist, or this partition of it does not"
	default:
		return err
	}
	return newFault(err, "cannot %s topic %q: %s (Kafka: %s)", verbs(action), topic, rule, words(err))
}

func verbs(action Action) string {
	return map[Action]string{Read: "read", Write: "write to", Look: "look up", Create: "make"}[action]
}

// who is the user, as Kafka knows it.
func (c *Cluster) who() string {
	if c.sasl.mechanism != "" {
		return fmt.Sprintf("user %q", c.sasl.username)
	}
	return "this client (it logs in with no name: KAFKA_SASL_MECHANISM is not set)"
}

// words are Kafka's own.
func words(err error) string {
	if answer := new(sarama.TopicError); errors.As(err, &answer) && answer.ErrMsg != nil {
		return *answer.ErrMsg
	}
	var code sarama.KError
	errors.As(err, &code)
	return code.Error()
}
