// Package read is kafkaread without the lab's lines: its flags, the start in each partition, the
// list of partitions, and the printing of records.
package read

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// Options are what the flags say.
type Options struct {
	Exit bool // stop at the end

	start     *start // nil: the offset that the program names
	partition int32  // -1: all
	count     uint64 // 0: no limit
	format    string
	json      bool // instead of format
}

// Parse reads the flags. With -h it prints the manual to stdout.
func Parse(args []string, stdout io.Writer, manual string) (Options, error) {
	opt := Options{partition: -1, format: "%s\n"}
	flags := flag.NewFlagSet("kafkaread", flag.ContinueOnError)
	flags.Func("offset", "`where` to start: oldest, newest (the default), an offset,\n"+
		"-N for the newest N records of each partition, a time such as\n"+
		"2026-01-31T12:00:00, or how long ago, such as 10m", func(s string) (err error) {
		opt.start, err = parseStart(s, time.Now())
		return err
	})
	cli.PartitionVar(flags, &opt.partition, "`number` of the only partition to read (default all)")
	flags.Func("n", "stop after `count` records (default 0, all)", func(s string) (err error) {
		if opt.count, err = strconv.ParseUint(s, 10, 64); err != nil {
			err = errors.New("valid is a number of records, 0 is all")
			if n, negative := strconv.ParseInt(s, 10, 32); negative == nil && n < 0 {
				err = fmt.Errorf("%w; the newest %d records of each partition: -offset %d -exit", err, -n, n)
			}
		}
		return err
	})
	flags.BoolVar(&opt.Exit, "exit", false, "stop at the end, as it was at the start")
	flags.Func("format", "`text` to print of a record (default %s\\n):\n"+verbs+";\n"+cli.Escapes, func(s string) (err error) {
		opt.format, err = parseFormat(s)
		return err
	})
	flags.BoolVar(&opt.json, "json", false, "print a JSON object for each record")
	return opt, cli.Parse(flags, args, stdout, manual, kafka.Variable{Name: "TOPIC", Meaning: "topic to read (chat if not set)"})
}

// A start says where to begin in each partition.
type start struct {
	offset int64     // an offset, sarama.OffsetOldest or sarama.OffsetNewest
	newest int64     // or else, if not 0: so many records before the end
	at     time.Time // or else, if not zero: the first record that is not older
}

// parseStart understands oldest, newest, an offset, -N, a time, and a duration before now.
func parseStart(s string, now time.Time) (*start, error) {
	n, noNumber := strconv.ParseInt(s, 10, 64)
	ago, noDuration := time.ParseDuration(s)
	switch {
	case s == "oldest":
		return &start{offset: sarama.OffsetOldest}, nil
	case s == "newest":
		return &start{offset: sarama.OffsetNewest}, nil
	case noNumber == nil && n >= 0:
		return &start{offset: n}, nil
	case noNumber == nil:
		return &start{newest: -max(n, -math.MaxInt64)}, nil
	case noDuration == nil && ago > 0:
		return &start{at: now.Add(-ago)}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return &start{at: t}, nil
		}
	}
	return nil, errors.New("valid is oldest, newest, an offset, -N, a time such as 2026-01-31T12:00:00, or how long ago, such as 10m")
}
