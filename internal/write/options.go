// Package write is kafkawrite without the lab's lines: its flags, a reader that returns many lines
// at once when they come fast, a producer that sends them together, and the report.
package write

import (
	"errors"
	"flag"
	"io"
	"strings"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// Options are what the flags say.
type Options struct {
	Headers   []sarama.RecordHeader // of all records
	Partition int32

	key       sarama.Encoder // of all records, or nil
	separator string         // ends the key at the start of each line, unless it is empty
	blank     bool           // a blank line is a record too
}

// Parse reads the flags. With -h it prints the manual to stdout.
func Parse(args []string, stdout io.Writer, manual string) (opt Options, err error) {
	flags := flag.NewFlagSet("kafkawrite", flag.ContinueOnError)
	flags.Func("key", "`key` of all records", func(s string) error {
		if s != "" {
			opt.key = sarama.StringEncoder(s)
		}
		return nil
	})
	flags.Func("key-sep", `text that ends the key at the start of each line, such as : or \t`, func(s string) (err error) {
		opt.separator, err = cli.Unescape(s)
		return err
	})
	flags.Func("header", "header of all records, `name=value`; may be given several times", func(s string) error {
		name, value, found := strings.Cut(s, "=")
		if !found || name == "" {
			return errors.New("valid is name=value")
		}
		opt.Headers = append(opt.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		return nil
	})
	cli.PartitionVar(flags, &opt.Partition, "`number` of the partition to write to (default 0)")
	flags.BoolVar(&opt.blank, "blank", false, "blank lines are records too; only the end of input ends")
	err = cli.Parse(flags, args, stdout, manual, kafka.Variable{Name: "TOPIC", Meaning: "topic to write to; made if there is none (chat if not set)"})
	if err == nil && opt.key != nil && opt.separator != "" {
		err = cli.Fail(cli.Usage, errors.New("-key and -key-sep: only one of them"))
	}
	return opt, err
}
