package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
)

// adminConfig is for the requests below. They return their errors, so nobody is warned of them besides.
func (c *Cluster) adminConfig(ctx context.Context) *sarama.Config {
	return c.config(ctx, "kafkachat-admin", func(error) {}, nil)
}

// Check contacts the cluster once, within ctx: a bootstrap broker, and a broker that this one advertises. Its error is one
// sentence that says which brokers were tried and what to do.
func (c *Cluster) Check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.adminConfig(ctx)
	metadata, err := c.metadata(ctx, config, "")
	if err != nil {
		return err
	}
	return c.reach(ctx, config, metadata)
}

// A State is what is known of a topic.
type State struct {
	Made       bool // by this call
	Partitions int32
	// Copies is how many brokers are to have partition 0, and MinInSync how many of them must be there
	// for a record to be taken; 0 if it is not known.
	Copies, MinInSync int
}

// Lookup looks a topic up; it has no partitions if there is none.
func (c *Cluster) Lookup(ctx context.Context, topic string) (State, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	metadata, err := c.metadata(ctx, c.adminConfig(ctx), topic)
	if err != nil {
		return State{}, err
	}
	state, _, err := c.state(metadata, topic)
	return state, err
}

// Mend returns the command that lets topic be written to while one of its brokers is away; "" if that is
// possible already, or nothing can be done, since there is one copy. A topic that was made while one of
// three brokers was away has two copies, and both must be there.
func (s State) Mend(topic string) string {
	if s.Copies < 2 || s.Copies > s.MinInSync {
		return ""
	}
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name %s --add-config min.insync.replicas=%d",
		topic, s.Copies-1)
}

// EnsureTopic makes topic if it does not exist, with one partition on up to three brokers, and waits until partition 0 has
// a leader. Somebody else may be making it at the same time. Settings (Kafka's names and values) are for a topic that is
// made here; nil are those for records that are to be kept. A topic that exists keeps the settings that it has.
func (c *Cluster) EnsureTopic(ctx context.Context, topic string, settings map[string]string) (State, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := c.adminConfig(ctx)
	made := false
	for {
		metadata, err := c.metadata(ctx, config, topic)
		if err != nil {
			return State{}, err
		}
		state, led, err := c.state(metadata, topic)
		state.Made = made
		if err != nil {
			return state, err
		}
		if led {
			state.MinInSync = c.minInSync(ctx, config, metadata, topic)
			return state, nil
		}
		if state.Partitions == 0 && !made {
			if made, err = c.createTopic(ctx, config, metadata, topic, settings); err != nil {
				return state, err
			}
		}
		select {
		case <-time.After(backoff / 2): // the brokers are still telling each other, or choosing a leader
		case <-ctx.Done():
			return state, fmt.Errorf("waiting for topic %q to become ready: %w", topic, ctx.Err())
		}
	}
}

// state says what there is of the topic, and whether partition 0 has a leader.
func (c *Cluster) state(metadata *sarama.MetadataResponse, topic string) (state State, led bool, err error) {
	for _, t := range metadata.Topics {
		if t.Name != topic {
			continue
		}
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
		case sarama.ErrUnknownTopicOrPartition:
			return State{}, false, nil
		default:
			return State{}, false, c.Explain(t.Err, Look, topic)
		}
		for _, p := range t.Partitions {
			if p.ID == 0 {
				state.Copies, led = len(p.Replicas), p.Leader >= 0
			}
		}
		state.Partitions = int32(len(t.Partitions))
	}
	return state, led, nil
}

// createTopic asks once. It says false without an error if somebody else was faster, or if the cluster has to settle first.
func (c *Cluster) createTopic(ctx context.Context, config *sarama.Config, metadata *sarama.MetadataResponse, topic string, settings map[string]string) (bool, error) {
	detail := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: int16(min(3, len(metadata.Brokers))), ConfigEntries: make(map[string]*string)}
	if settings == nil && detail.ReplicationFactor == 3 {
		settings = map[string]string{"min.insync.replicas": "2"} // one broker may be away, and still no acknowledged record is on one disk only
	}
	for name, value := range settings {
		detail.ConfigEntries[name] = &value
	}
	// With a ZooKeeper only the controller does this; later brokers pass it on, and name any of them.
	slices.SortStableFunc(metadata.Brokers, func(a, b *sarama.Broker) int {
		return cmp.Compare(a.ID()^metadata.ControllerID, b.ID()^metadata.ControllerID) // the controller's is 0
	})
	failed := make(map[string]error)
	var tried []string
	for _, broker := range metadata.Brokers {
		tried = append(tried, broker.Addr())
		if failed[broker.Addr()] = connect(broker, config); failed[broker.Addr()] != nil {
			continue
		}
		response, err := broker.CreateTopics(&sarama.CreateTopicsRequest{
			Version:      2,
			TopicDetails: map[string]*sarama.TopicDetail{topic: detail},
			Timeout:      produceTimeout,
		})
		broker.Close()
		if failed[broker.Addr()] = err; err != nil {
			continue
		}
		answer := response.TopicErrors[topic]
		if answer == nil {
			return false, fmt.Errorf("making topic %q: %w", topic, sarama.ErrIncompleteResponse)
		}
		switch answer.Err {
		case sarama.ErrNoError:
			return true, nil
		case sarama.ErrTopicAlreadyExists, sarama.ErrRequestTimedOut, sarama.ErrInvalidReplicationFactor:
			return false, nil // the last one: a broker has just left; the next metadata says how many there are
		case sarama.ErrNotController:
			continue
		}
		if err := c.Explain(answer, Create, topic); err != error(answer) {
			return false, err
		}
		return false, fmt.Errorf("making topic %q: %w", topic, answer)
	}
	if len(failed) == 0 {
		return false, nil
	}
	for _, err := range failed {
		if err == nil {
			return false, nil // the controller is another one by now
		}
	}
	return false, c.unreachable(ctx, failed, tried)
}

// minInSync asks how many copies of a record there must be, and returns 0 if nobody says.
func (c *Cluster) minInSync(ctx context.Context, config *sarama.Config, metadata *sarama.MetadataResponse, topic string) int {
	const name = "min.insync.replicas"
	for _, broker := range metadata.Brokers {
		if connect(broker, config) != nil {
			continue
		}
		response, err := broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1,
			Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name}}}})
		broker.Close()
		if err != nil {
			continue
		}
		for _, resource := range response.Resources {
			for _, entry := range resource.Configs {
				if n, err := strconv.Atoi(entry.Value); entry.Name == name && err == nil {
					return n
				}
			}
		}
		return 0 // it may not be allowed, which is nothing to fail for
	}
	return 0
}

// metadata asks the first bootstrap broker that answers about the brokers and topic ("": any). It does not wait for
// anything to change, as sarama's clients do.
func (c *Cluster) metadata(ctx context.Context, config *sarama.Config, topic string) (*sarama.MetadataResponse, error) {
	failed := make(map[string]error)
	for _, addr := range c.Brokers {
		broker := sarama.NewBroker(addr)
		err := connect(broker, config)
		if err == nil {
			var response *sarama.MetadataResponse
			response, err = broker.GetMetadata(sarama.NewMetadataRequest(config.Version, topics(topic)))
			broker.Close()
			if err == nil {
				return response, nil
			}
		}
		failed[addr] = err
	}
	return nil, c.unreachable(ctx, failed, c.Brokers)
}

func topics(topic string) []string {
	if topic == "" {
		return nil
	}
	return []string{topic}
}

// reach connects to the first advertised broker that can be reached.
func (c *Cluster) reach(ctx context.Context, config *sarama.Config, metadata *sarama.MetadataResponse) error {
	failed := make(map[string]error)
	var tried []string
	for _, broker := range metadata.Brokers {
		err := connect(broker, config)
		if err == nil {
			broker.Close()
			return nil
		}
		failed[broker.Addr()] = err
		tried = append(tried, broker.Addr())
	}
	list, err := c.explain(ctx, failed, tried)
	if list == "" {
		return err
	}
	return newFault(err, "the broker at %s answers, but sends its clients to %s, where nobody can be reached from here: correct its advertised.listeners",
		strings.Join(c.Brokers, ", "), list)
}

// connect opens the connection and waits for it.
func connect(broker *sarama.Broker, config *sarama.Config) error {
	if err := broker.Open(config); err != nil {
		return err
	}
	_, err := broker.Connected()
	return err
}

// unreachable makes one sentence of why no broker was reached.
func (c *Cluster) unreachable(ctx context.Context, failed map[string]error, brokers []string) error {
	list, err := c.explain(ctx, failed, brokers)
	if list == "" {
		return err
	}
	advice := "start one with `go run ./chatserver`, or set KAFKA_BROKER"
	switch {
	case c.inPod:
		advice = "KAFKA_BROKER must name a Service of this cluster that has a broker (kubectl get endpoints)"
	case c.BrokerInside:
		advice = "start it, correct KAFKA_BROKER, or unset KAFKA_BROKER to have a broker inside"
	}
	return newFault(err, "no Kafka broker at %s: %s", list, advice)
}

// speaksHTTP says whether a web server is at addr: the page's port is easily taken for the broker's.
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

// explain returns a fault, if one of the errors is one and so says everything, or else the list of the brokers, each with the
// reason why it was not reached.
func (c *Cluster) explain(ctx context.Context, failed map[string]error, brokers []string) (list string, err error) {
	var tried []string
	for _, addr := range brokers {
		err = c.sasl.explain(failed[addr], addr)
		if f := new(fault); errors.As(err, &f) {
			return "", f
		}
		why := reason(ctx, err)
		if why == noAnswer && speaksHTTP(ctx, addr) {
			why = "a web server is there; a broker's port is usually 9092"
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", addr, why))
	}
	return strings.Join(tried, ", "), err
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
