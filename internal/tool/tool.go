// Package tool is what kafkawrite and kafkaread have in common at their edges: exit codes, sentences on standard error, the
// manual, and the first contact with Kafka.
package tool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"kafkachat/internal/kafka"
)

// Exit codes.
const (
	OK = iota
	Failed
	Usage
	Unconnected
)

// ErrUsage is wrapped by an error in the flags that shows only when Kafka has been asked.
var ErrUsage = errors.New("wrong usage")

// Say writes a line to standard error, begun with the program's name. Any goroutine may use it.
type Say func(format string, args ...any)

// NewSay returns the Say of a program.
func NewSay(program string, stderr io.Writer) Say {
	return func(format string, args ...any) {
		io.WriteString(stderr, program+": "+fmt.Sprintf(format, args...)+"\n")
	}
}

// Flags returns a flag set whose -h prints manual, the flags and the environment, of which topic is what TOPIC means.
func Flags(program string, stderr io.Writer, manual, topic string) *flag.FlagSet {
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		io.WriteString(stderr, manual+"\nFlags\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nEnvironment\n  %-22s %s (%s if not set)\n", "TOPIC", topic, kafka.DefaultTopic)
		for _, v := range kafka.Variables() {
			fmt.Fprintf(stderr, "  %-22s %s\n", v.Name, v.Meaning)
		}
	}
	return flags
}

// WrongUsage says what is wrong with the flags, unless it is only that help was asked for, and returns the exit code.
func WrongUsage(say Say, err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return OK
	}
	say("%v", err)
	return Usage
}

// Connect contacts the cluster that the environment names. If the exit code is not OK, it has said why.
func Connect(ctx context.Context, getenv func(string) string, say Say) (cluster *kafka.Cluster, topic string, code int) {
	topic, err := kafka.Topic(getenv)
	if err != nil {
		return nil, "", WrongUsage(say, err)
	}
	if cluster, err = kafka.FromEnv(getenv); err != nil {
		return nil, "", WrongUsage(say, err)
	}
	cluster.Warn = func(err error) { say("%v", err) }
	if err := cluster.Check(ctx); err != nil {
		say("%v", err)
		return nil, "", Unconnected
	}
	return cluster, topic, OK
}
