// Command kafkaread prints the records of a Kafka topic that are written from now on, one value per line.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkaread/main.go
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/kafka"
)

var errConnect = errors.New("cannot connect")

func main() {
	metrics.UseNilMetrics = true // sarama's own counters, which nobody would read
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "kafkaread:", err)
		if errors.Is(err, errConnect) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) error {
	cluster, err := kafka.FromEnv(getenv)
	if err != nil {
		return err
	}
	cluster.Warn = func(err error) { fmt.Fprintln(stderr, "kafkaread:", err) }
	topic := getenv("TOPIC")
	if topic == "" {
		topic = kafka.DefaultTopic
	}
	if err := cluster.Check(ctx); err != nil {
		return fmt.Errorf("%w: %w", errConnect, err)
	}
	from := sarama.OffsetNewest
	for waiting := false; ; waiting = true {
		n, err := cluster.Partitions(ctx, topic)
		if err != nil {
			return err
		}
		if n > 0 {
			break
		}
		if !waiting {
			fmt.Fprintf(stderr, "kafkaread: there is no topic %q yet; waiting for it. This makes it: TOPIC=%s go run ./kafkawrite\n", topic, topic)
			from = sarama.OffsetOldest // whatever it will hold when we notice it is new
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}

	consumer, err := sarama.NewConsumer(cluster.Brokers, cluster.Config(ctx, "kafkaread"))
	if err != nil {
		return err
	}
	defer consumer.Close()
	partitionConsumer, err := consumer.ConsumePartition(topic, 0, from)
	if err != nil {
		return err
	}
	defer partitionConsumer.Close()
	for {
		select {
		case message := <-partitionConsumer.Messages():
			fmt.Fprintf(stdout, "%s\n", message.Value)
		case err := <-partitionConsumer.Errors():
			fmt.Fprintln(stderr, "kafkaread:", err)
		case <-ctx.Done():
			return nil
		}
	}
}
