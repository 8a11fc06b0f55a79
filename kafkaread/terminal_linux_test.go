package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// atTerminal starts a program at a terminal: what p.Stdin gets is typed, and p.Out has what is on the screen.
func atTerminal(t *testing.T, brokers, topic, program string, args ...string) *clitest.Process {
	t.Helper()
	person, unopened := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	number, unnumbered := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	locked := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err := errors.Join(unopened, unnumbered, locked, err); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close(); person.Close() })
	p := clitest.New(t, brokers, topic, program, args...)
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr, p.Stdin = tty, tty, tty, person
	go io.Copy(&p.Out, person)
	return p.Start()
}

// A person types lines, and ends them with Ctrl-D or in a line with Ctrl-C. A reader goes on after a cut, and escapes what a terminal obeys.
func TestTerminal(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	proxy := kafkatest.NewProxy(t, brokers)
	p := atTerminal(t, brokers, topic, "kafkawrite")
	p.Write("typed\nlast\x04\x04") // Ctrl-D, once for the line and once for the end
	p.WantExit(0)
	p.WaitFor(&p.Out, `kafkawrite: 2 of 2 lines written\r\n$`)

	p = atTerminal(t, brokers, topic, "kafkawrite")
	p.WaitFor(&p.Out, "Enter lines")
	p.Write("\x1b[2J\nhalf")
	reader := clitest.Start(t, proxy.Addr(), topic, "kafkaread", "-offset", "oldest")
	reader.WaitFor(&reader.Out, `^typed\nlast\n\x1b\[2J\n$`)
	p.WaitFor(&p.Out, "half") // the echo may come later than the line before
	p.Interrupt()
	p.WantExit(0)
	p.WaitFor(&p.Out, `(?s)half\r\nkafkawrite: .*1 of 1 lines written\r\n$`) // before it, if the answer is late: not acknowledged yet
	proxy.Refuse(true)
	proxy.Cut()
	reader.WaitFor(&reader.Err, `kafkaread: partition 0: .*; still trying\n`)
	kafkatest.Produce(t, brokers, topic, "more")
	proxy.Refuse(false)
	reader.WaitFor(&reader.Err, `kafkaread: partition 0 goes on\n`)
	reader.WaitFor(&reader.Out, `^typed\nlast\n\x1b\[2J\nmore\n$`)
	reader.Interrupt()
	reader.WantExit(0)

	p = atTerminal(t, brokers, topic, "kafkaread", "-offset", "oldest", "-exit")
	p.WantExit(0)
	p.WaitFor(&p.Out, `^typed\r\nlast\r\n\\x1b\[2J\r\nmore\r\n$`)
}
