// Package consumer connects a consumer to the topic, in a way that lets its owner notice every
// fault.
package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/kafka"
)

// A Session is a connection to the brokers for one consumer of partition 0 of one topic. It is
// used by one goroutine.
type Session struct {
	Client         sarama.Client
	Oldest, Newest int64           // where the partition began and ended when the session began
	Broken         <-chan struct{} // receives a value when the partition's leader is lost

	cut context.CancelFunc
}

// Open connects. It waits until the brokers answer or ctx ends.
func Open(ctx context.Context, cluster *kafka.Cluster, clientID, topic string) (*Session, error) {
	ctx, cut := context.WithCancel(ctx)
	config := cluster.Config(ctx, clientID)
	broken := NoticeBroken(ctx, config)
	client, err := sarama.NewClient(cluster.Brokers, config)
	if err != nil {
		cut()
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	s := &Session{Client: client, Broken: broken, cut: cut}
	if s.Oldest, err = client.GetOffset(topic, 0, sarama.OffsetOldest); err == nil {
		s.Newest, err = client.GetOffset(topic, 0, sarama.OffsetNewest)
	}
	if err != nil {
		s.Cut()
		s.Close()
		return nil, fmt.Errorf("asking where topic %q begins and ends: %w", topic, err)
	}
	return s, nil
}

// NoticeBroken has the consumers of a client with this config, which lives as long as ctx, stop when a
// partition's leader is lost; the channel receives a value then.
//
// After a fault sarama subscribes again by itself, at its own offset, even if the topic is another
// one by then: measured, without an error. Its back-off is the one thing that it always does
// before, so that is where it is kept from it: the back-off says so and never ends.
func NoticeBroken(ctx context.Context, config *sarama.Config) <-chan struct{} {
	broken := make(chan struct{}, 1)
	config.Consumer.Retry.BackoffFunc = func(int) time.Duration {
		select {
		case broken <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return time.Hour // the consumer is being closed, and does not wait for this
	}
	return broken
}

// Cut ends whatever the session's consumer is waiting for, so that it can be closed. It may be
// called again.
func (s *Session) Cut() { s.cut() }

// Close ends the session. Its consumers must have been closed.
func (s *Session) Close() {
	s.cut()
	s.Client.Close() // it has nothing to lose
}
