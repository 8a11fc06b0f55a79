//go:build long && !race

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// A million lines are the same afterwards, and neither program takes as much as 100 MB for them. They
// are less than the embedded broker keeps of a topic.
func TestMillionLines(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	text := strings.ReplaceAll(clitest.Numbers(0, 999_999), "\n", " and some more words\n") + strings.Repeat("long ", 190_000) + "\n"
	for range 5 { // while a thread of the garbage collector has no processor, a program takes more
		topic := kafkatest.Topic(t, brokers)
		writer := clitest.Start(t, brokers, topic, "kafkawrite")
		go func() {
			defer writer.Stdin.Close()
			writer.Write(text)
		}()
		written := peak(writer)
		writer.WantExit(0)
		writer.WaitFor(&writer.Err, " 1000000 of 1000000 lines written\n$")
		reader := clitest.Start(t, brokers, topic, "kafkaread", "-offset", "oldest", "-exit")
		read := peak(reader)
		reader.WantExit(0)
		if reader.Out.String() != text {
			t.Error("what was read is not what was written")
		}
		if t.Logf("kafkawrite took %d MB, kafkaread %d MB", written, read); max(written, read) <= 100 || t.Failed() {
			return
		}
	}
	t.Error("more than 100 MB each time")
}

// peak waits for the program's end and returns the most memory that it has taken, in MB. The kernel's
// figure at the end (ru_maxrss) would count this process too, of which the program is a copy at first.
func peak(p *clitest.Process) (mb int) {
	kb := 0
	for {
		select {
		case <-p.Ended:
			return kb >> 10
		case <-time.After(20 * time.Millisecond):
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid)) // Linux only
			_, highWater, _ := strings.Cut(string(status), "VmHWM:")
			fmt.Sscan(highWater, &kb) // which leaves kb as it is when the process has ended
		}
	}
}
