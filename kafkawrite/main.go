// Command kafkawrite writes lines of text to a Kafka topic, one record per line, until a blank line or the end of input.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkawrite/main.go
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/kafka"
)

var errConnect = errors.New("cannot connect")

func main() {
	metrics.UseNilMetrics = true // sarama's own counters, which nobody would read
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "kafkawrite:", err)
		if errors.Is(err, errConnect) {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	cluster, err := kafka.FromEnv(getenv)
	if err != nil {
		return err
	}
	cluster.Warn = func(err error) { fmt.Fprintln(stderr, "kafkawrite:", err) }
	topic := getenv("TOPIC")
	if topic == "" {
		topic = kafka.DefaultTopic
	}
	if err := cluster.Check(ctx); err != nil {
		return fmt.Errorf("%w: %w", errConnect, err)
	}
	created, _, err := cluster.EnsureTopic(ctx, topic)
	if err != nil {
		return err
	}
	if created {
		fmt.Fprintf(stderr, "kafkawrite: made topic %q\n", topic)
	}

	producer, err := sarama.NewSyncProducer(cluster.Brokers, cluster.Config(ctx, "kafkawrite"))
	if err != nil {
		return err
	}
	defer producer.Close()

	fmt.Fprintf(stdout, "Enter lines of text to be written to %q:\n", topic)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdin); scanner.Scan() && scanner.Text() != ""; {
			lines <- scanner.Text()
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			message := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(line)}
			if _, _, err := producer.SendMessage(message); err != nil {
				return fmt.Errorf("line %q was not acknowledged: %w", line, err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
