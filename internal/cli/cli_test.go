package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
	"kafkachat/internal/kafka"
)

// TestMain is also the program of TestProcess.
func TestMain(m *testing.M) {
	if os.Getenv("CLI_TEST_PROGRAM") == "" {
		os.Exit(m.Run())
	}
	cli.Setup(100)
	ctx := cli.Signals(context.Background())
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	for range 3 {
		fmt.Fprintln(os.Stdout, "nobody reads this")
		fmt.Fprintln(os.Stderr, "nor this")
	}
	if os.Getenv("CLI_TEST_PROGRAM") == "ends" {
		os.Exit(7)
	}
	select {}
}

// The first signal ends the context. Broken pipes do not end the process, a second signal does.
func TestProcess(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]int{"ends": 7, "hangs": -1} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "CLI_TEST_PROGRAM="+how)
		stdout, outErr := cmd.StdoutPipe()
		stderr, errErr := cmd.StderrPipe()
		if err := errors.Join(outErr, errErr, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		stdout.Read(make([]byte, 6))
		stdout.Close()
		stderr.Close()
		cmd.Process.Signal(os.Interrupt)
		if how == "hangs" { // the second signal must come after the first was taken
			go func() {
				for cmd.Process.Signal(syscall.SIGTERM) == nil {
					time.Sleep(50 * time.Millisecond)
				}
			}()
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s after a signal and broken pipes: %v, want exit status %d", how, err, want)
		}
	}
}

func TestExit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
		says string
	}{
		{nil, cli.OK, ""},
		{flag.ErrHelp, cli.OK, ""},
		{errors.New("why"), cli.Failed, "program: why\n"},
		{fmt.Errorf("a: %w", cli.Fail(cli.Usage, errors.New("b"))), cli.Usage, "program: a: b\n"},
		{cli.Unreached(sarama.ErrOutOfBrokers), cli.Unconnected, "program: kafka: client has run out of available brokers to talk to\n"},
		{cli.Unreached(sarama.ErrInvalidTopic), cli.Failed, "program: " + sarama.ErrInvalidTopic.Error() + "\n"},
		{fmt.Errorf("no: %w", sarama.ErrTopicAuthorizationFailed), cli.NotAllowed, "program: no: " + sarama.ErrTopicAuthorizationFailed.Error() + "\n"},
	} {
		var stderr bytes.Buffer
		if got := cli.Exit(cli.NewSay("program", &stderr), c.err); got != c.want || stderr.String() != c.says {
			t.Errorf("%v: status %d, %q; want %d, %q", c.err, got, stderr.String(), c.want, c.says)
		}
	}
}

// What is wrong with flags and variables is said once, without the manual, before anything is sent to
// Kafka; -h prints the manual.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, env string
		status    int
		says      string
	}{
		{"-x", "", cli.Usage, "tool: flag provided but not defined: -x; -h prints the manual"},
		{"file", "", cli.Usage, `tool: "file" is no flag; -h prints the manual`},
		{"-partition x", "", cli.Usage, `tool: invalid value "x" for flag -partition: valid is a number, the first one is 0; -h prints the manual`},
		{"-partition 2", "", cli.Usage, `tool: -partition 2: topic "t" has partitions 0 to 1`},
		{`-text \x`, "", cli.Usage, `tool: invalid value "\\x" for flag -text: a backslash begins one of \n, \r, \t, \0, \\; -h prints the manual`},
		{`-text a\tb`, "TOPIC=a/b", cli.Usage, `tool: TOPIC="a/b": valid are 1 to 249 letters, digits, dots, underscores and hyphens`},
		{"", "KAFKA_BROKER=a:b:c", cli.Usage, `tool: KAFKA_BROKER="a:b:c": "a:b:c" is no host:port; valid is host:port`},
		{"", "KAFKA_BROKER=127.0.0.1:1", cli.Unconnected, "tool: no Kafka broker at 127.0.0.1:1 (connection refused): "},
		{"-h", "", cli.OK, ""},
	} {
		var stdout, stderr bytes.Buffer
		say := cli.NewSay("tool", &stderr)
		run := func() error {
			flags := flag.NewFlagSet("tool", flag.ContinueOnError)
			var partition int32
			cli.PartitionVar(flags, &partition, "which")
			flags.Func("text", "what", func(s string) error {
				_, err := cli.Unescape(s)
				return err
			})
			if err := cli.Parse(flags, strings.Fields(c.args), &stdout, "The manual.\n", kafka.Variable{Name: "TOPIC", Meaning: "where from"}); err != nil {
				return err
			}
			if err := cli.CheckPartition(partition, "t", 2); err != nil {
				return err
			}
			name, value, _ := strings.Cut(c.env, "=")
			_, _, err := cli.Connect(t.Context(), func(n string) string { return map[string]string{name: value}[n] })
			return err
		}
		status := cli.Exit(say, run())
		if status != c.status || !strings.HasPrefix(stderr.String(), c.says) || strings.Count(stderr.String(), "\n") != min(status, 1) {
			t.Errorf("%s %s: status %d, %q; want %d, %q", c.env, c.args, status, stderr.String(), c.status, c.says)
		}
		manual := strings.HasPrefix(stdout.String(), "The manual.\n\nFlags\n  -partition value\n") &&
			strings.Contains(stdout.String(), "\n  TOPIC                       where from\n") && strings.Contains(stdout.String(), "KAFKA_SASL_PASSWORD")
		if manual != (c.args == "-h") {
			t.Errorf("%s: on stdout %q", c.args, stdout.String())
		}
	}
}
