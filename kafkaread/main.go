// Command kafkaread prints the records of a Kafka topic, as they come or from any place on.
//
//	TOPIC=testtopic KAFKA_BROKER=kafka:9092 go run kafkaread/main.go
//
// Read it from read down: NewConsumer, ConsumePartition and Messages are the three things that it takes to read from Kafka;
// the rest is about where to start, when to stop, and what may go wrong.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/kafka"
	"kafkachat/internal/offsets"
	"kafkachat/internal/show"
	"kafkachat/internal/tool"
)

// manual is what -h prints before the flags.
//
//go:embed manual.txt
var manual string

const (
	pause = 100 * time.Millisecond // between two attempts, and before silence is looked into
	some  = 1000                   // records are handed over at once, if there are so many
	never = math.MaxInt64          // the end offset of a reader that does not stop
)

func main() {
	metrics.UseNilMetrics = true   // sarama's own counters, which nobody reads here
	signal.Ignore(syscall.SIGPIPE) // writing to a broken pipe is an error like others
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process, also when nobody takes its output
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	say := tool.NewSay("kafkaread", stderr)
	opt, err := parse(args, stderr)
	if err != nil {
		return tool.WrongUsage(say, err)
	}
	cluster, topic, code := tool.Connect(ctx, getenv, say)
	if code != tool.OK {
		return code
	}

	err = read(ctx, cluster, topic, opt, stdout, say)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, syscall.EPIPE):
		return tool.OK
	case errors.Is(err, tool.ErrUsage):
		return tool.WrongUsage(say, err)
	}
	say("%v", err)
	return tool.Failed
}

func read(ctx context.Context, cluster *kafka.Cluster, topic string, opt options, stdout io.Writer, say tool.Say) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := cluster.Config(ctx, "kafkaread")
	config.Consumer.Fetch.Default = 256 << 10 // bytes; short records take ten times as much memory
	consumer, err := sarama.NewConsumer(cluster.Brokers, config)
	if err != nil {
		return err
	}
	defer consumer.Close()
	// Questions about offsets go by connections of their own: the consumer's are busy waiting for records.
	client, err := sarama.NewClient(cluster.Brokers, cluster.Config(ctx, "kafkaread"))
	if err != nil {
		return err
	}
	defer client.Close()

	r := &reader{topic: topic, consumer: consumer, client: client, say: say, records: make(chan []*sarama.ConsumerMessage)}
	defer r.following.Wait()
	defer cancel() // runs first, so that nothing above waits for a broker
	partitions, err := r.awaitTopic(ctx, cluster, &opt)
	if err != nil {
		return err
	}
	if err = r.start(ctx, opt, partitions); err != nil {
		return err
	}
	return show.Print(stdout, r.records, opt.show, opt.count)
}

// A reader follows partitions of a topic.
type reader struct {
	topic    string
	consumer sarama.Consumer
	client   sarama.Client
	say      tool.Say

	following sync.WaitGroup                 // a goroutine for each partition
	records   chan []*sarama.ConsumerMessage // from all of them; closed when they have ended
}

// awaitTopic returns how many partitions the topic has, as soon as there are some.
func (r *reader) awaitTopic(ctx context.Context, cluster *kafka.Cluster, opt *options) (int32, error) {
	for waiting := false; ; waiting = true {
		state, err := cluster.Lookup(ctx, r.topic)
		n := state.Partitions
		if n > 0 {
			return n, nil
		}
		if err == nil {
			err = fmt.Errorf("there is no topic %q; this makes it: TOPIC=%s go run ./kafkawrite", r.topic, r.topic)
		}
		if opt.exit || ctx.Err() != nil {
			return 0, err
		}
		if !waiting {
			r.say("%v", err)
			r.say("waiting for it")
			if opt.start.Newest() {
				opt.start = offsets.Oldest() // all that it will hold is new
			}
		}
		sleep(ctx, 5*pause)
	}
}

// start finds out where each partition is to be read from and to, and then begins to follow them all.
func (r *reader) start(ctx context.Context, opt options, partitions int32) error {
	first, last := int32(0), partitions-1
	if opt.partition > last {
		return fmt.Errorf("%w: -partition %d: topic %q has partitions 0 to %d", tool.ErrUsage, opt.partition, r.topic, last)
	}
	if opt.partition >= 0 {
		first, last = opt.partition, opt.partition
	}
	var follow []func()
	for p := first; p <= last; p++ {
		offset, end, skipped, err := offsets.Find(r.client, r.topic, p, opt.start)
		for err != nil && ctx.Err() == nil { // its leader may have left at this moment
			sleep(ctx, pause)
			offset, end, skipped, err = offsets.Find(r.client, r.topic, p, opt.start)
		}
		if err != nil {
			return err
		}
		if skipped != "" {
			r.say("partition %d: %s; starting there", p, skipped)
		}
		if !opt.exit {
			end = never
		}
		follow = append(follow, func() { r.follow(ctx, p, offset, end) })
	}
	if opt.start.Newest() && !opt.exit {
		r.say("printing what is written to %q from now on; Ctrl-C ends", r.topic)
	}
	for _, f := range follow {
		r.following.Go(f)
	}
	go func() {
		r.following.Wait()
		close(r.records)
	}()
	return nil
}

// follow hands over the records of a partition from offset to before end. While its brokers are away it waits.
func (r *reader) follow(ctx context.Context, partition int32, offset, end int64) {
	for offset < end && ctx.Err() == nil {
		// Not sarama.OffsetNewest or OffsetOldest: after a fault these would lose records or repeat them.
		partitionConsumer, err := r.consumer.ConsumePartition(r.topic, partition, offset)
		switch {
		case err == nil:
			offset = r.consume(ctx, partitionConsumer, partition, offset, end)
			partitionConsumer.Close()
		case errors.Is(err, sarama.ErrOffsetOutOfRange):
			next, lost, err := offsets.Resume(r.client, r.topic, partition, offset)
			if err == nil && lost != "" {
				r.say("partition %d: %s; going on at offset %d", partition, lost, next)
				offset = next
			}
		default:
			sleep(ctx, pause)
		}
	}
}

// consume hands over records until the end, or until sarama gives up because the partition does not have offset any more. It
// returns the offset after the last one.
func (r *reader) consume(ctx context.Context, from sarama.PartitionConsumer, partition int32, offset, end int64) int64 {
	var tick <-chan time.Time
	if end != never {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		tick = ticker.C
	}
	silent := 0           // ticks without a record
	var trouble time.Time // when the last error came
	errs := from.Errors()
	for offset < end {
		select {
		case message, open := <-from.Messages():
			if !open {
				return offset
			}
			records := []*sarama.ConsumerMessage{message}
			for len(from.Messages()) > 0 && len(records) < some {
				records = append(records, <-from.Messages())
			}
			offset = records[len(records)-1].Offset + 1
			for len(records) > 0 && records[len(records)-1].Offset >= end {
				records = records[:len(records)-1]
			}
			silent = 0
			select {
			case r.records <- records:
			case <-ctx.Done():
			}
		case err := <-errs:
			if err == nil {
				errs = nil // closed
			} else if !errors.Is(err, sarama.ErrOffsetOutOfRange) && time.Since(trouble) > 20*pause {
				r.say("partition %d: %v; waiting for its broker, to go on at offset %d", partition, err.Err, offset)
			}
			trouble = time.Now()
		case <-tick:
			if silent++; silent == 1 {
				continue
			}
			// Nobody may ever see the record before end: it may be a hole.
			_, found, err := offsets.Next(r.client, r.topic, partition, offset, end)
			switch {
			case err == nil && !found:
				return end
			case errors.Is(err, offsets.ErrShort) && silent > 100:
				r.say("partition %d: it does not reach offset %d any more; stopping at %d", partition, end, offset)
				return end
			}
		case <-ctx.Done():
			return offset
		}
	}
	return offset
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// options are what the flags say.
type options struct {
	start     offsets.Start
	partition int32 // -1: all
	count     int   // 0: no limit
	exit      bool
	show      show.Func
}

func parse(args []string, stderr io.Writer) (opt options, err error) {
	flags := tool.Flags("kafkaread", stderr, manual, "topic to read")
	start := flags.String("offset", "newest", "`where` to start: oldest, newest, an offset, -N for the newest N of each partition,\n"+
		"a time such as 2026-01-31T12:00:00, or how long ago, such as 10m")
	partition := flags.Int("partition", -1, "`number` of the only partition to read")
	flags.IntVar(&opt.count, "n", 0, "stop after `count` records; 0 is all")
	flags.BoolVar(&opt.exit, "exit", false, "stop at the end, as it was at the start")
	format := flags.String("format", `%s\n`, "what to print of a record: "+show.Formats)
	asJSON := flags.Bool("json", false, "print a JSON object for each record")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	if flags.NArg() > 0 {
		return opt, fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	if opt.count < 0 {
		return opt, fmt.Errorf("-n %d: valid is a number of records, 0 for all", opt.count)
	}
	opt.partition = int32(min(max(*partition, -1), math.MaxInt32))
	if opt.start, err = offsets.ParseStart(*start, time.Now()); err != nil {
		return opt, fmt.Errorf("-offset %s: %w", *start, err)
	}
	if opt.show, err = show.ParseFormat(*format); err != nil {
		return opt, fmt.Errorf("-format: %w", err)
	}
	if *asJSON {
		opt.show = show.JSON
	}
	return opt, nil
}
