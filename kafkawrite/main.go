// Command kafkawrite writes lines of text to a Kafka topic, one record per line, until a blank line or the end of input.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkawrite/main.go
//
// Its manual is what -h prints. Read it from run down: NewSyncProducer, ProducerMessage and SendMessage are the three
// things that it takes to write to Kafka; the rest is about many lines at once and about what may go wrong.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/batch"
	"kafkachat/internal/kafka"
	"kafkachat/internal/lines"
	"kafkachat/internal/tool"
)

// manual is what -h prints before the flags.
//
//go:embed manual.txt
var manual string

const (
	slow     = 2 * time.Second // after this long without an acknowledgement the person is told what is waited for
	patience = 2 * time.Minute // after this long it is given up
)

func main() {
	metrics.UseNilMetrics = true // sarama's own counters, which nobody reads here
	debug.SetGCPercent(300)      // a third less time for a million lines, and still less than 100 MB
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	say := tool.NewSay("kafkawrite", stderr)
	opt, err := parse(args, stderr)
	if err != nil {
		return tool.WrongUsage(say, err)
	}
	reading, sending, giveUp := untilSignals()
	defer giveUp()

	cluster, topic, code := tool.Connect(reading, getenv, say)
	if code != tool.OK {
		return code
	}
	state, err := cluster.EnsureTopic(reading, topic, nil)
	if err != nil {
		say("%v", err)
		return tool.Unconnected
	}
	if state.Made {
		say("there was no topic %q: made it", topic)
	}
	if opt.partition >= state.Partitions {
		return tool.WrongUsage(say, fmt.Errorf("-partition %d: topic %q has partitions 0 to %d", opt.partition, topic, state.Partitions-1))
	}

	producer, err := newProducer(sending, cluster)
	if err != nil {
		say("%v", err)
		return tool.Unconnected
	}
	defer producer.Close()
	client, err := sarama.NewClient(cluster.Brokers, cluster.Config(sending, "kafkawrite"))
	if err != nil {
		say("%v", err)
		return tool.Unconnected
	}
	defer client.Close()
	defer giveUp() // runs first: by then all is sent, and closing must not wait for a broker
	w := &writer{
		one:    producer,
		many:   batch.NewProducer(sending, producer, client, topic, opt.partition),
		ctx:    sending,
		giveUp: giveUp,
		say:    say,
	}

	fmt.Fprintf(stdout, "Enter lines of text to be written to %q:\n", topic)
	input := lines.NewReader(stdin, opt.blank, opt.extraBytes())
	for {
		texts, err := input.Next(reading)
		if err != nil {
			return w.end(err)
		}
		var messages []*sarama.ProducerMessage
		for _, text := range texts {
			var key sarama.Encoder
			if key, text, err = opt.split(text); err != nil {
				break
			}
			messages = append(messages, &sarama.ProducerMessage{
				Topic:     topic,
				Partition: opt.partition,
				Key:       key,
				Value:     sarama.ByteEncoder(text),
				Headers:   opt.headers,
			})
		}
		w.read += len(texts)
		if failed := w.write(messages); failed != nil {
			err = failed
		}
		if err != nil {
			return w.fail(err)
		}
	}
}

// untilSignals returns a context that the first Ctrl-C ends and one that the second ends, or giveUp.
func untilSignals() (reading, sending context.Context, giveUp context.CancelFunc) {
	sending, giveUp = context.WithCancel(context.Background())
	reading, stopReading := context.WithCancel(sending)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stopReading()
		<-signals
		giveUp()
	}()
	return reading, sending, giveUp
}

// newProducer returns sarama's producer with the settings under which one record at a time is neither lost nor doubled,
// however connections and brokers fail: a broker knows a record that is sent again by its number. That several records at a
// time need another way is told in package batch.
func newProducer(ctx context.Context, cluster *kafka.Cluster) (sarama.SyncProducer, error) {
	for {
		config := cluster.Config(ctx, "kafkawrite")
		config.Producer.Idempotent = true
		config.Producer.Retry.Max = 10_000 // patience ends first
		config.Producer.MaxMessageBytes = lines.MaxRecord
		producer, err := sarama.NewSyncProducer(cluster.Brokers, config)
		if !errors.Is(err, sarama.ErrOffsetsLoadInProgress) || ctx.Err() != nil {
			return producer, err
		}
		time.Sleep(100 * time.Millisecond) // a broker that has just started has no producer id to give yet
	}
}

// A writer sends messages and counts the lines that are in Kafka.
type writer struct {
	one, many sarama.SyncProducer
	ctx       context.Context // the life of both
	giveUp    func()          // ends it
	say       tool.Say

	read, written int // lines
}

// write sends messages, the next ones. It returns an error if not all of them are known to be stored.
func (w *writer) write(messages []*sarama.ProducerMessage) error {
	line := w.written + 1
	waiting := time.AfterFunc(slow, func() {
		w.say("line %d is not acknowledged yet; waiting for the brokers, up to %v", line, patience)
	})
	defer waiting.Stop()
	defer time.AfterFunc(patience, w.giveUp).Stop()

	var err error
	if len(messages) == 1 {
		_, _, err = w.one.SendMessage(messages[0])
	} else {
		err = w.many.SendMessages(messages)
	}
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) {
		w.written += len(messages) - len(failed)
		err = failed[0].Err
	} else if err == nil {
		w.written += len(messages)
	}
	if err != nil && w.ctx.Err() != nil {
		err = fmt.Errorf("gave up waiting for its acknowledgement, it may be stored all the same: %w", err)
	}
	return err
}

// end reports that all lines that were read are written; reason is why there are no more.
func (w *writer) end(reason error) int {
	switch reason {
	case io.EOF, context.Canceled: // the latter: Ctrl-C
		w.say("%d of %d lines written", w.written, w.read)
		return tool.OK
	case lines.ErrBlank:
		w.say("%d of %d lines written, up to a blank line (-blank writes such lines too)", w.written, w.read)
		return tool.OK
	}
	w.read++ // a line that is too long, or that could not be read
	return w.fail(reason)
}

// fail reports that the line after those that are written may not be; reason is why.
func (w *writer) fail(reason error) int {
	w.say("%d of %d lines written; line %d: %v", w.written, w.read, w.written+1, reason)
	return tool.Failed
}

// options are what the flags say.
type options struct {
	key       sarama.Encoder // of all records, or nil
	separator string         // ends the key at the start of each line, unless it is empty
	headers   []sarama.RecordHeader
	partition int32
	blank     bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opt options
	flags := tool.Flags("kafkawrite", stderr, manual, "topic to write to; made if there is none")
	key := flags.String("key", "", "`key` of all records")
	flags.StringVar(&opt.separator, "key-sep", "", "`text` that ends the key at the start of each line")
	flags.Func("header", "header of all records, `name=value`; may be given several times", func(s string) error {
		name, value, found := strings.Cut(s, "=")
		if !found || name == "" {
			return errors.New("valid is name=value")
		}
		opt.headers = append(opt.headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		return nil
	})
	partition := flags.Uint("partition", 0, "`number` of the partition to write to")
	flags.BoolVar(&opt.blank, "blank", false, "blank lines are records too; only the end of input ends")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	if *key != "" {
		opt.key = sarama.StringEncoder(*key)
	}
	opt.partition = int32(min(*partition, 1<<31-1))
	switch {
	case flags.NArg() > 0:
		return opt, fmt.Errorf("%q is no flag; the lines are read from standard input", flags.Arg(0))
	case opt.key != nil && opt.separator != "":
		return opt, errors.New("-key and -key-sep: only one of them")
	case opt.extraBytes() > lines.MaxExtra:
		return opt, fmt.Errorf("-key and -header have more than %d bytes together", lines.MaxExtra)
	}
	return opt, nil
}

// extraBytes is how much the flags add to every record.
func (opt options) extraBytes() int {
	n := 0
	if opt.key != nil {
		n = opt.key.Length()
	}
	for _, h := range opt.headers {
		n += len(h.Key) + len(h.Value) + 10 // their lengths
	}
	return n
}

// split returns the key and the value that a line means.
func (opt options) split(line []byte) (sarama.Encoder, []byte, error) {
	if opt.separator == "" {
		return opt.key, line, nil
	}
	key, value, found := strings.Cut(string(line), opt.separator)
	if !found {
		return nil, nil, fmt.Errorf("has no %q after its key", opt.separator)
	}
	return sarama.StringEncoder(key), []byte(value), nil
}
