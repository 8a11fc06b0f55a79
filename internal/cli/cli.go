// Package cli is what the programs have in common at their edges: exit statuses, the manual, signals,
// sentences on standard error, and the first contact with Kafka.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rcrowley/go-metrics"

	"kafkachat/internal/kafka"
)

// Exit statuses, as the manuals have them.
const (
	OK          = iota
	Failed      // something is not written, or cannot be read
	Usage       // wrong flags or variables
	Unconnected // no broker can be reached
	NotAllowed  // Kafka refuses the login, or a right is missing
)

// Setup is for the beginning of main. It sets what concerns the whole process: writing to a broken
// pipe is an error like others, also for standard output and standard error, where Go would end the
// process; sarama does not count what nobody reads; and, unless GOGC says otherwise, the collector
// works when the heap has grown by so many percent.
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

// Say writes a line to standard error, begun with the program's name. Any goroutine may use it.
type Say func(format string, args ...any)

// NewSay returns the Say of a program.
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

// Fail returns err with the exit status that it means. Without one an error means Failed, or
// NotAllowed if Kafka says so.
func Fail(status int, err error) error { return failure{err, status} }

// Exit says why the program ends, unless all is well, and returns the exit status.
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

// Parse reads the flags. With -h it prints the manual, the flags and the environment, in which topic
// is what TOPIC means, and returns flag.ErrHelp.
func Parse(flags *flag.FlagSet, args []string, stderr io.Writer, manual, topic string) error {
	flags.SetOutput(io.Discard) // an error is said once, by Exit, and without the manual
	err := flags.Parse(args)
	if err == nil {
		return nil
	}
	if !errors.Is(err, flag.ErrHelp) {
		return Fail(Usage, fmt.Errorf("%w; -h prints the manual", err))
	}
	io.WriteString(stderr, manual+"\nFlags\n")
	flags.SetOutput(stderr)
	flags.PrintDefaults()
	fmt.Fprintf(stderr, "\nEnvironment\n  %-22s %s (%s if not set)\n", "TOPIC", topic, kafka.DefaultTopic)
	for _, v := range kafka.Variables() {
		fmt.Fprintf(stderr, "  %-22s %s\n", v.Name, v.Meaning)
	}
	return err
}

// Connect contacts the cluster that the environment names.
func Connect(ctx context.Context, getenv func(string) string, say Say) (cluster *kafka.Cluster, topic string, err error) {
	if topic, err = kafka.Topic(getenv); err == nil {
		cluster, err = kafka.FromEnv(getenv)
	}
	if err != nil {
		return nil, "", Fail(Usage, err)
	}
	cluster.Warn = func(err error) { say("%v", err) }
	if err = cluster.Check(ctx); err != nil && !kafka.NotAllowed(err) {
		err = Fail(Unconnected, err)
	}
	return cluster, topic, err
}
