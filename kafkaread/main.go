// Command kafkaread prints the records of a Kafka topic, as they come or from any place on.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkaread/main.go
//
// The flag -h prints the manual. Read this file from run down: NewConsumer, ConsumePartition and
// Messages are all that a program needs to read from Kafka. The consumer is that of internal/kafka:
// it looks like sarama's, and goes on after faults. internal/read has the code for the flags.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"io"
	"os"
	"sync"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/read"
)

// manual is what -h prints before the flags.
//
//go:embed manual.txt
var manual string

func main() {
	cli.Setup(100) // Go's default
	ctx := cli.Signals(context.Background())
	say := cli.NewSay("kafkaread", os.Stderr)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, say)
	if ctx.Err() != nil {
		err = nil // Ctrl-C is the usual end
	}
	os.Exit(cli.Exit(say, err))
}

// run prints records until the end that the flags set, or until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer, say cli.Say) error {
	opt, err := read.Parse(args, stdout, manual)
	if err != nil {
		return err
	}
	cluster, name, err := cli.Connect(ctx, getenv)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	topic, err := read.Await(ctx, opt, cluster, name, say)
	if err != nil {
		return err
	}
	consumer := topic.NewConsumer(ctx)
	defer consumer.Close()

	out := read.NewPrinter(stdout, opt, say, stop)
	var partitions sync.WaitGroup
	for partition := range topic.Partitions(ctx) { // the chat has one partition, 0
		partitions.Go(func() {
			// OffsetOldest: from the first record on. The flag -offset overrides this offset.
			partitionConsumer := consumer.ConsumePartition(name, partition, sarama.OffsetNewest)
			for message := range partitionConsumer.Messages() {
				out.Print(message)
			}
			if !opt.Exit {
				stop() // the partition has ended for good
			}
		})
	}
	partitions.Wait()
	err = out.Close()
	return cmp.Or(consumer.Err(), err)
}
