package cli_test

import (
	"bytes"
	"context"
	"errors"
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
	for want, err := range map[string]error{ // the status, and what is said
		"0 ":                nil,
		"2 program: a: b\n": fmt.Errorf("a: %w", cli.Fail(cli.Usage, errors.New("b"))),
		"3 program: " + sarama.ErrOutOfBrokers.Error() + "\n":                 cli.Unreached(sarama.ErrOutOfBrokers),
		"1 program: " + sarama.ErrInvalidTopic.Error() + "\n":                 cli.Unreached(sarama.ErrInvalidTopic),
		"4 program: no: " + sarama.ErrTopicAuthorizationFailed.Error() + "\n": fmt.Errorf("no: %w", sarama.ErrTopicAuthorizationFailed),
	} {
		var stderr bytes.Buffer
		status := cli.Exit(cli.NewSay("program", &stderr), err)
		if got := fmt.Sprint(status, " ", stderr.String()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
