package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/cli"
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
