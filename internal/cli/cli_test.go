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
	for _, how := range []string{"ends", "hangs"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CLI_TEST_PROGRAM="+how)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stdout.Read(make([]byte, 6))
		stdout.Close()
		stderr.Close()
		cmd.Process.Signal(os.Interrupt)
		if how == "hangs" { // the second signal must come after the first was taken
			stop := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			defer stop.Stop()
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			go func() {
				for range ticker.C {
					if cmd.Process.Signal(syscall.SIGTERM) != nil {
						return
					}
				}
			}()
		}
		err = cmd.Wait()
		if how == "ends" && cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("after a signal and broken pipes: %v, want exit status 7", err)
		}
		if how == "hangs" && cmd.ProcessState.ExitCode() != -1 {
			t.Errorf("after two signals: %v", err)
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
		{cli.Fail(cli.Unconnected, sarama.ErrOutOfBrokers), cli.Unconnected, "program: kafka: client has run out of available brokers to talk to\n"},
		{fmt.Errorf("no: %w", sarama.ErrTopicAuthorizationFailed), cli.NotAllowed, "program: no: " + sarama.ErrTopicAuthorizationFailed.Error() + "\n"},
	} {
		var stderr bytes.Buffer
		if got := cli.Exit(cli.NewSay("program", &stderr), c.err); got != c.want || stderr.String() != c.says {
			t.Errorf("%v: status %d, %q; want %d, %q", c.err, got, stderr.String(), c.want, c.says)
		}
	}
}

// What is wrong with the flags is said once, without the manual; -h prints it.
func TestParse(t *testing.T) {
	t.Parallel()
	parse := func(args ...string) (string, error) {
		var stderr bytes.Buffer
		flags := flag.NewFlagSet("program", flag.ContinueOnError)
		flags.Int("n", 0, "how many")
		err := cli.Parse(flags, args, &stderr, "The manual.\n", kafka.Variable{Name: "TOPIC", Meaning: "where from"})
		return stderr.String(), err
	}
	if said, err := parse("-n", "3"); said != "" || err != nil {
		t.Errorf("good flags: %q, %v", said, err)
	}
	said, err := parse("-x")
	if want := "flag provided but not defined: -x; -h prints the manual"; said != "" || err.Error() != want || cli.Exit(func(string, ...any) {}, err) != cli.Usage {
		t.Errorf("an unknown flag: %q, %v", said, err)
	}
	if said, err = parse("-h"); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(said, "The manual.\n\nFlags\n  -n int\n") ||
		!strings.Contains(said, "\n  TOPIC                       where from\n") || !strings.Contains(said, "KAFKA_SASL_PASSWORD") {
		t.Errorf("-h: %q, %v", said, err)
	}
}

// What is wrong is an exit status, before anything is sent to Kafka and after.
func TestConnect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		topic, broker string
		want          int
	}{
		{"a b", "localhost:9092", cli.Usage},
		{"chat", "a:b:c", cli.Usage},
		{"chat", "127.0.0.1:1", cli.Unconnected},
	} {
		getenv := func(name string) string { return map[string]string{"TOPIC": c.topic, "KAFKA_BROKER": c.broker}[name] }
		_, _, err := cli.Connect(t.Context(), getenv, t.Logf)
		if got := cli.Exit(t.Logf, err); got != c.want {
			t.Errorf("TOPIC=%q KAFKA_BROKER=%s: exit status %d, want %d", c.topic, c.broker, got, c.want)
		}
	}
}
