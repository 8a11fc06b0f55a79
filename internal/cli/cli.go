// Package cli has what the programs share: exit statuses, the manual, signals, sentences on
// standard error, and the first contact with Kafka.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/Shopify/sarama"
	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/kafka"
)

// Exit statuses, as the manuals list them.
const (
	OK          = iota
	Failed      // something is not written, or cannot be read
	Usage       // wrong flags or variables
	Unconnected // no broker can be reached
	NotAllowed  // Kafka refuses the login, or a right is missing
)

// Setup is called at the start of main, and changes the whole process. A write to a broken pipe is
// an error like others, also on standard output and standard error, where Go would end the process.
// sarama keeps no metrics, because no program here reads them. Unless GOGC is set, the collector
// works when the heap has grown by percent.
func Setup(percent int) {
	signal.Ignore(syscall.SIGPIPE)
	metrics.UseNilMetrics = true
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// Signals returns a context that ends at the first Ctrl-C or SIGTERM. The second one ends the
// process at once.
func Signals(ctx context.Context) context.Context {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Interrupts returns a context that ends at the first Ctrl-C or SIGTERM, and one that ends at the
// second. A terminal shows ^C; what the program says next begins on a new line. The third one ends
// the process at once.
func Interrupts() (first, second context.Context) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	go func() {
		for _, end := range []context.CancelFunc{endFirst, endSecond} {
			if <-signals == os.Interrupt && Terminal(os.Stderr) {
				os.Stderr.WriteString("\n")
			}
			end()
		}
		signal.Stop(signals)
	}()
	return first, second
}

// Terminal returns whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, _ := w.(*os.File)
	info, err := f.Stat() // an error for nil, too
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Say writes a line to standard error, begun with the program's name. Any goroutine may use it.
type Say func(format string, args ...any)

func NewSay(program string, stderr io.Writer) Say {
	return func(format string, args ...any) {
		io.WriteString(stderr, program+": "+fmt.Sprintf(format, args...)+"\n")
	}
}

// failure is an error with the exit status that it means.
type failure struct {
	error
	status int
}

func (f failure) Unwrap() error { return f.error }

// Fail returns err with an exit status. An error without a status means Failed, or NotAllowed if
// Kafka says so.
func Fail(status int, err error) error { return failure{err, status} }

// Exit says err, unless err is nil or flag.ErrHelp, and returns the exit status.
func Exit(say Say, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return OK
	}
	say("%v", err)
	if f := (failure{}); errors.As(err, &f) {
		return f.status
	}
	if kafka.NotAllowed(err) {
		return NotAllowed
	}
	return Failed
}

// Parse reads the flags. With -h it prints the manual, the flags and the environment (the program's
// own variables and those of Kafka), and returns flag.ErrHelp.
func Parse(flags *flag.FlagSet, args []string, stdout io.Writer, manual string, own ...kafka.Variable) error {
	flags.SetOutput(io.Discard) // Exit says an error, once, and without the manual
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, flag.ErrHelp):
		hint := ""
		switch name, _ := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); name {
		case "topic":
			hint = " (the variable TOPIC names the topic)"
		case "broker", "brokers", "bootstrap-server":
			hint = " (the variable KAFKA_BROKER names the brokers)"
		}
		return Fail(Usage, fmt.Errorf("%w%s; -h prints the manual", err, hint))
	}
	io.WriteString(stdout, manual+"\nFlags\n")
	flags.SetOutput(stdout)
	flags.PrintDefaults()
	io.WriteString(stdout, "\nEnvironment\n")
	for _, v := range append(own, kafka.Variables()...) {
		fmt.Fprintf(stdout, "  %-28s%s\n", v.Name, v.Meaning)
	}
	return err
}

// PartitionVar adds the flag -partition.
func PartitionVar(flags *flag.FlagSet, partition *int32, usage string) {
	flags.Func("partition", usage, func(s string) error {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return errors.New("valid is a number, the first one is 0")
		}
		*partition = int32(n)
		return nil
	})
}

// CheckPartition returns an error if partition, the value of -partition, is not less than
// partitions, the topic's number of partitions.
func CheckPartition(partition int32, topic string, partitions int32) error {
	if partition < partitions {
		return nil
	}
	has := "one partition, 0"
	if partitions > 1 {
		has = fmt.Sprintf("partitions 0 to %d", partitions-1)
	}
	return Fail(Usage, fmt.Errorf("-partition %d: topic %q has %s", partition, topic, has))
}

// Escapes lists what Unescape replaces.
const Escapes = `\n, \r, \t, \0, \\`

// Unescape replaces the escapes in the value of a flag.
func Unescape(s string) (string, error) {
	if strings.Contains(regexp.MustCompile(`\\[nrt0\\]`).ReplaceAllString(s, ""), `\`) {
		return "", fmt.Errorf("a backslash begins one of %s", Escapes)
	}
	return strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\0`, "\x00", `\\`, `\`).Replace(s), nil
}

// Unreached gives err the status Unconnected, unless err holds the answer of a broker.
func Unreached(err error) error {
	if code := sarama.KError(0); err == nil || errors.As(err, &code) {
		return err
	}
	return Fail(Unconnected, err)
}

// Connect contacts the cluster that the environment names.
func Connect(ctx context.Context, getenv func(string) string) (cluster *kafka.Cluster, topic string, err error) {
	if topic, err = kafka.Topic(getenv); err == nil {
		cluster, err = kafka.FromEnv(getenv)
	}
	if err != nil {
		return nil, "", Fail(Usage, err)
	}
	if err = cluster.Check(ctx); ctx.Err() != nil {
		return nil, "", errors.New("stopped before a broker answered")
	}
	return cluster, topic, Unreached(err)
}
