// Package read is what kafkaread has besides the lab's lines: its flags, where it starts in each
// partition, the partitions themselves, and how records are printed.
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
)

// Options are what the flags say.
type Options struct {
	Exit bool // stop at the end

	start     start
	partition int32 // -1: all
	count     int   // 0: no limit
	show      format
}

// Parse reads the flags.
func Parse(args []string, stderr io.Writer, manual string) (opt Options, err error) {
	flags := flag.NewFlagSet("kafkaread", flag.ContinueOnError)
	flags.Func("offset", "`where` to start: oldest, newest (which it is without this flag), an offset,\n"+
		"-N for the newest N records of each partition, a time such as\n2026-01-31T12:00:00, or how long ago, such as 10m", func(s string) (err error) {
		opt.start, err = parseStart(s, time.Now())
		return err
	})
	partition := flags.Int("partition", -1, "`number` of the only partition to read")
	flags.IntVar(&opt.count, "n", 0, "stop after `count` records; 0 is all")
	flags.BoolVar(&opt.Exit, "exit", false, "stop at the end, as it was at the start")
	text := flags.String("format", `%s\n`, "what to print of a record: "+formats)
	asJSON := flags.Bool("json", false, "print a JSON object for each record")
	if err := cli.Parse(flags, args, stderr, manual, "topic to read"); err != nil {
		return opt, err
	}
	opt.partition = int32(min(max(*partition, -1), math.MaxInt32))
	opt.show, err = parseFormat(*text)
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag", flags.Arg(0))
	case opt.count < 0:
		err = fmt.Errorf("-n %d: valid is a number of records, 0 for all", opt.count)
	case err != nil:
		err = fmt.Errorf("-format: %w", err)
	case *asJSON:
		opt.show = nil
	}
	if err != nil {
		err = cli.Fail(cli.Usage, err)
	}
	return opt, err
}

// A start says where to start, in any partition. One field is set; none: where the program says.
type start struct {
	end    int64     // sarama.OffsetOldest or sarama.OffsetNewest
	offset *int64    // this offset
	back   int64     // so many records before the end
	time   time.Time // the first record that is not older
}

// parseStart understands oldest, newest, an offset, -N, a time, and a duration before now.
func parseStart(s string, now time.Time) (start, error) {
	switch s {
	case "oldest":
		return start{end: sarama.OffsetOldest}, nil
	case "newest":
		return start{end: sarama.OffsetNewest}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return start{back: -max(n, -math.MaxInt64)}, nil
		}
		return start{offset: &n}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return start{time: now.Add(-d)}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return start{time: t}, nil
		}
	}
	return start{}, errors.New("valid is oldest, newest, an offset such as 42, the newest N as -N, a time such as 2026-01-31T12:00:00, or how long ago, such as 10m")
}
