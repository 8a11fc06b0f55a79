package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/wire"
)

// A Kind of error says whether trying again can help.
type Kind int

const (
	Unknown   Kind = iota // nobody knows: try again, ever more seldom, and say why
	Passing               // it passes by itself: try again
	Permanent             // a person has to change something first: say so and stop
)

// kinds is the table of Kafka's errors: what its protocol calls retriable passes by itself.
func kinds(code sarama.KError) Kind {
	switch code {
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed,
		sarama.ErrUnsupportedSASLMechanism, sarama.ErrIllegalSASLState, sarama.ErrInvalidTopic, sarama.ErrInvalidConfig,
		sarama.ErrPolicyViolation, sarama.ErrUnsupportedVersion, sarama.ErrUnsupportedForMessageFormat,
		sarama.ErrMessageSizeTooLarge, sarama.ErrInvalidMessageSize, sarama.ErrMessageSetSizeTooLarge,
		sarama.ErrInvalidTimestamp, sarama.ErrInvalidRecord:
		return Permanent
	}
	if wire.Retriable(int16(code)) {
		return Passing
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
	case errors.As(err, &configuration), errors.Is(err, wire.ErrFormat):
		return Permanent // sarama found, before it sent anything, that Kafka would refuse
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, sarama.ErrOutOfBrokers), errors.Is(err, sarama.ErrBrokerNotFound), errors.Is(err, sarama.ErrNotConnected),
		errors.Is(err, errStalled):
		return Passing
	}
	return Unknown
}

// NotAllowed says whether Kafka has refused something for want of a right, or refused the login.
func NotAllowed(err error) bool {
	var code sarama.KError
	return errors.As(err, &code) && slices.Contains([]sarama.KError{sarama.ErrTopicAuthorizationFailed,
		sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedSASLMechanism}, code)
}

// Explain makes a sentence of an error that Kafka returned for a topic: it names the topic, and
// the right (READ, WRITE ...) that is missing or the rule that is broken. Other errors are returned
// as they are.
func (c *Cluster) Explain(err error, right, topic string) error {
	var code sarama.KError
	if f := new(fault); errors.As(err, &f) || !errors.As(err, &code) {
		return err
	}
	words := code.Error() // Kafka's own
	if answer := new(sarama.TopicError); errors.As(err, &answer) && answer.ErrMsg != nil {
		words = *answer.ErrMsg
	}
	rule := ""
	switch code {
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed:
		who := "this client (it logs in with no name: KAFKA_SASL_MECHANISM is not set)"
		if c.mechanism != "" {
			who = fmt.Sprintf("user %q", c.user)
		}
		return newFault(err, "%s lacks the right to %s topic %q, which an administrator can grant (Kafka: %s)", who, right, topic, words)
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge:
		rule = ": a record is larger than its max.message.bytes"
	case sarama.ErrInvalidRecord:
		rule = ": a record breaks a rule of it (a compacted topic wants keys)"
	}
	if kinds(code) != Permanent && code != sarama.ErrUnknownTopicOrPartition {
		return err
	}
	return newFault(err, "%s of topic %q is refused%s (Kafka: %s)", right, topic, rule, words)
}

const (
	firstPause = 100 * time.Millisecond
	longPause  = 10 * time.Second // the pause grows to this
	// passingPause is as long as the pause grows for what passes by itself: a broker that is back
	// is to be used soon, and a connection that is refused costs nobody anything.
	passingPause = time.Second
	sayAgain     = time.Minute
)

// A Wait is between the attempts at something that fails: its pause grows from 0.1 s to 10 s (1 s
// for what passes by itself), and it says why it waits, once for each reason and once a minute.
// The zero value waits without a word. It belongs to one goroutine.
type Wait struct {
	// May be nil. err is the reason; nil: it works again, after a reason was said.
	Say   func(err error)
	After time.Duration // nothing is said of what passes within this

	pause  time.Duration        // the last one; 0 while all is well
	failed time.Time            // when the first attempt failed
	said   map[string]time.Time // when each reason was said last; nil: none was
}

// Failed says why, if that is new, and waits. It returns false when ctx has ended.
func (w *Wait) Failed(ctx context.Context, err error) bool {
	now := time.Now()
	if w.pause == 0 {
		w.failed = now
	}
	longest := longPause
	if KindOf(err) == Passing {
		longest = passingPause
	}
	w.pause = min(max(firstPause, 2*w.pause), longest)
	if reason := spoken(err); ctx.Err() == nil && w.Say != nil && now.Sub(w.failed) >= w.After && now.Sub(w.said[reason.text]) >= sayAgain {
		if w.said == nil {
			w.said = make(map[string]time.Time)
		}
		w.said[reason.text] = now
		w.Say(reason)
	}
	select {
	case <-time.After(w.pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// Worked says, if a reason was said, that it works again. The next pause is a short one.
func (w *Wait) Worked() {
	if w.said != nil {
		w.Say(nil)
	}
	w.pause, w.said = 0, nil
}

// spoken returns err in words that are the same when it comes again, without the client's port,
// which is another one for each connection.
func spoken(err error) *fault {
	text := regexp.MustCompile(`(dial|read|write) tcp (\S+->)?(\S+): (connect: )?`).ReplaceAllString(err.Error(), "$3: ")
	text = strings.ReplaceAll(text, sarama.ErrOutOfBrokers.Error(), "no broker can be reached")
	return newFault(err, "%s", strings.ReplaceAll(text, "\n\t* ", "; "))
}
