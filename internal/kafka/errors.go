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
	Unknown   Kind = iota // a retry may help: try again, with longer pauses, and say why
	Passing               // the cause passes by itself: try again
	Permanent             // an operator has to change something first: say so and stop
)

// kinds is the table of Kafka's errors. Those that Kafka's protocol calls retriable are Passing.
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
		return Permanent // sarama sent nothing, or the records have an old format
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, sarama.ErrOutOfBrokers), errors.Is(err, sarama.ErrBrokerNotFound), errors.Is(err, sarama.ErrNotConnected),
		errors.Is(err, errStalled):
		return Passing
	}
	return Unknown
}

// NotAllowed says whether Kafka refused a request because a right is missing, or refused the login.
func NotAllowed(err error) bool {
	var code sarama.KError
	return errors.As(err, &code) && slices.Contains([]sarama.KError{sarama.ErrTopicAuthorizationFailed,
		sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed, sarama.ErrUnsupportedSASLMechanism}, code)
}

// Explain makes a sentence of an error that Kafka returned for a topic. The sentence names the
// topic, and the missing right (READ, WRITE ...) or the broken rule. Other errors stay as they are.
func (c *Cluster) Explain(err error, right, topic string) error {
	var code sarama.KError
	if f := new(fault); errors.As(err, &f) || !errors.As(err, &code) {
		return err
	}
	words := code.Error() // sarama's, unless Kafka sent its own
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
	longPause  = 10 * time.Second // the longest pause
	// passingPause is the longest pause after a Passing error: a broker that is back is to be used
	// soon, and a refused connection costs little.
	passingPause = time.Second
	sayAgain     = time.Minute
)

// A Wait pauses between the attempts at something that fails. The pause grows from firstPause to
// longPause, or to passingPause after Passing errors. A Wait says each reason when it is new, and
// again after sayAgain. The zero value says nothing. A Wait belongs to one goroutine.
type Wait struct {
	// Say gets the reason, or nil: an attempt has worked after a reason was said. Say may be nil.
	Say   func(err error)
	After time.Duration // shorter failures are not said

	pause  time.Duration        // the last pause; 0 after a success
	failed time.Time            // when the first attempt failed
	said   map[string]time.Time // when each reason was said last; nil: no reason was
}

// Failed says err, if that is due, and pauses. Failed returns false when ctx has ended.
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

// Worked calls Say with nil, if a reason was said. The next pause is a short one.
func (w *Wait) Worked() {
	if w.said != nil {
		w.Say(nil)
	}
	w.pause, w.said = 0, nil
}

// spoken returns err without the client's port, which differs for each connection: the same reason
// must have the same text each time.
func spoken(err error) *fault {
	text := regexp.MustCompile(`(dial|read|write) tcp (\S+->)?(\S+): (connect: )?`).ReplaceAllString(err.Error(), "$3: ")
	text = strings.ReplaceAll(text, sarama.ErrOutOfBrokers.Error(), "no broker can be reached")
	return newFault(err, "%s", strings.ReplaceAll(text, "\n\t* ", "; "))
}
