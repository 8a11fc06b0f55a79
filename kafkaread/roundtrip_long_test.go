//go:build long && !race

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
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
	topic := kafkatest.Topic(t, brokers)
	want, got := sha256.New(), sha256.New()
	writer := clitest.New(t, brokers, topic, "kafkawrite", "-blank")
	go func() {
		defer writer.Stdin.Close()
		some := []string{"plain", "kůň 🐎", "nul \x00", "no UTF-8 \xff\xfe", "\tand \r in", "", strings.Repeat("long", 20)}
		lines := bufio.NewWriterSize(io.MultiWriter(writer.Stdin, want), 64<<10)
		defer lines.Flush()
		for i := range 1_000_000 {
			switch {
			case i%10 == 8:
			case i%500_000 == 9_999:
				lines.WriteString(strings.Repeat("long ", 190_000))
			default:
				fmt.Fprintf(lines, "%d %s", i, some[i%len(some)])
			}
			lines.WriteByte('\n')
		}
	}()
	written := peak(writer.Start())
	writer.WantExit(0)
	writer.WaitFor(&writer.Err, " 1000000 of 1000000 lines written\n$")

	reader := clitest.New(t, brokers, topic, "kafkaread", "-offset", "oldest", "-exit")
	reader.Cmd.Stdout = got
	read := peak(reader.Start())
	reader.WantExit(0)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("what was read is not what was written")
	}
	if t.Logf("kafkawrite took %d MB, kafkaread %d MB", written, read); max(written, read) > 100 {
		t.Error("more than 100 MB")
	}
}

// peak waits for the program's end and returns the most memory that it has taken, in MB. The kernel's
// figure at the end (ru_maxrss) would count this process too, of which the program is a copy at first.
func peak(p *clitest.Process) (mb int) {
	highWater := regexp.MustCompile(`VmHWM:\s*(\d+) kB`)
	for {
		select {
		case <-p.Ended:
			return mb
		case <-time.After(20 * time.Millisecond):
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid)) // Linux only
			if match := highWater.FindSubmatch(status); match != nil {
				kb, _ := strconv.Atoi(string(match[1]))
				mb = kb >> 10
			}
		}
	}
}
