// Package write is what kafkawrite has besides the lab's lines: its flags, a reader that takes many
// lines at once when they come fast, a producer that sends them in one piece, and the report.
package write

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
)

// Options are what the flags say.
type Options struct {
	Headers   []sarama.RecordHeader // of all records
	Partition int32

	key       sarama.Encoder // of all records, or nil
	separator string         // ends the key at the start of each line, unless it is empty
	blank     bool           // blank lines are records like others
}

// Parse reads the flags.
func Parse(args []string, stderr io.Writer, manual string) (opt Options, err error) {
	flags := flag.NewFlagSet("kafkawrite", flag.ContinueOnError)
	key := flags.String("key", "", "`key` of all records")
	flags.Func("key-sep", `text that ends the key at the start of each line, such as : or \t (escapes: `+escapes+")", func(s string) (err error) {
		opt.separator, err = unescape(s)
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
	partition := flags.Uint("partition", 0, "`number` of the partition to write to")
	flags.BoolVar(&opt.blank, "blank", false, "blank lines are records too; only the end of input ends")
	if err := cli.Parse(flags, args, stderr, manual, "topic to write to; made if there is none"); err != nil {
		return opt, err
	}
	if *key != "" {
		opt.key = sarama.StringEncoder(*key)
	}
	opt.Partition = int32(min(*partition, math.MaxInt32))
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag; the lines are read from standard input", flags.Arg(0))
	case opt.key != nil && opt.separator != "":
		err = errors.New("-key and -key-sep: only one of them")
	case opt.extraBytes() > maxExtra:
		err = fmt.Errorf("-key and -header have more than %d bytes together", maxExtra)
	}
	if err != nil {
		err = cli.Fail(cli.Usage, err)
	}
	return opt, err
}

// extraBytes is how much the flags add to every record.
func (opt Options) extraBytes() int {
	n := 0
	if opt.key != nil {
		n = opt.key.Length()
	}
	for _, h := range opt.Headers {
		n += len(h.Key) + len(h.Value) + 10 // their lengths
	}
	return n
}

// escapes are those of kafkaread's -format.
const escapes = `\n, \r, \t, \0, \\`

func unescape(s string) (string, error) {
	if strings.Contains(strings.NewReplacer(`\n`, "", `\r`, "", `\t`, "", `\0`, "", `\\`, "").Replace(s), `\`) {
		return "", fmt.Errorf("a backslash begins one of %s", escapes)
	}
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\0`, "\x00", `\\`, `\`).Replace(s), nil
}
