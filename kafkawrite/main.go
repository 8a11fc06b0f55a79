// Command kafkawrite writes lines of text to a Kafka topic, one record per line, until a blank line
// or the end of input.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkawrite/main.go
//
// The flag -h prints the manual. Read this file from run down: NewSyncProducer, ProducerMessage and
// SendMessage are all that a program needs to write to Kafka. internal/write has the code for many
// lines at once and for faults.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/write"
)

// manual is what -h prints before the flags.
//
//go:embed manual.txt
var manual string

func main() {
	cli.Setup(200) // a million lines take a third less time, and still less than 100 MB
	// The first Ctrl-C ends reading, and the second one ends sending too.
	reading, sending := cli.Interrupts()
	say := cli.NewSay("kafkawrite", os.Stderr)
	os.Exit(cli.Exit(say, run(reading, sending, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, say)))
}

// run reads lines until reading ends, and sends them until sending ends.
func run(reading, sending context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout io.Writer, say cli.Say) error {
	opt, err := write.Parse(args, stdout, manual)
	if err != nil {
		return err
	}
	cluster, topic, err := cli.Connect(reading, getenv)
	if err != nil {
		return err
	}
	if err := write.Ensure(reading, cluster, topic, opt.Partition, say); err != nil {
		return err
	}
	report := &write.Report{Say: say}
	context.AfterFunc(reading, report.Interrupted)
	producer, err := write.NewSyncProducer(sending, cluster, topic, opt.Partition, report)
	if err != nil {
		return err
	}
	defer producer.Close()

	fmt.Fprintf(stdout, "Enter lines of text to be written to %q:\n", topic)
	input := write.NewReader(reading, stdin, opt, report, func(key, value sarama.Encoder) *sarama.ProducerMessage {
		return &sarama.ProducerMessage{
			Topic:     topic,
			Partition: opt.Partition,
			Key:       key,
			Value:     value,
			Headers:   opt.Headers,
		}
	})
	for {
		messages, err := input.Next() // one if a user types, thousands if they come from a file
		if err != nil {
			return report.End(err)
		}
		if len(messages) == 1 {
			_, _, err = producer.SendMessage(messages[0])
		} else {
			err = producer.SendMessages(messages) // together: a hundred times as fast
		}
		if err != nil {
			return report.Fail(err)
		}
	}
}
