// Command kafkaread prints the records of a Kafka topic, as they come or from any place on.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkaread/main.go
//
// Its manual is what -h prints. Read it from run down: NewConsumer, ConsumePartition and Messages are
// the three things that it takes to read from Kafka. The consumer is internal/kafka's, in the shape of
// sarama's: it goes on after faults. What the flags need besides stands in internal/read.
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
	cli.Setup(100) // the collector works as Go has it
	ctx := cli.Signals(context.Background())
	say := cli.NewSay("kafkaread", os.Stderr)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, say)
	if ctx.Err() != nil {
		err = nil // Ctrl-C is how one stops it
	}
	os.Exit(cli.Exit(say, err))
}

// run prints records until the flags say that it is enough, or ctx ends.
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
	for partition := range topic.Partitions(ctx) { // the chat has one, number 0
		partitions.Go(func() {
			// OffsetOldest: from the first record on. The flag -offset goes before what is here.
			partitionConsumer := consumer.ConsumePartition(name, partition, sarama.OffsetNewest)
			for message := range partitionConsumer.Messages() {
				out.Print(message)
			}
			if !opt.Exit {
				stop() // it has ended for good
			}
		})
	}
	partitions.Wait()
	err = out.Close()
	return cmp.Or(consumer.Err(), err)
}
