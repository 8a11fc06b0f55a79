package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// randomLines writes n lines of any bytes, empty ones and long ones among them; the last one has no
// end. A million of them are less than the embedded broker keeps of a topic.
func randomLines(w io.Writer, n int) {
	random := rand.New(rand.NewPCG(1, 2))
	some := []string{"plain", "kůň 🐎", "nul \x00", "no UTF-8 \xff\xfe", "\tand \r in", " ", ""}
	line := new(bytes.Buffer)
	for i := range n {
		line.Reset()
		fmt.Fprintf(line, "%x ", i)
		line.WriteString(some[random.IntN(len(some))])
		for range random.IntN(5) {
			if b := byte(random.IntN(256)); b != '\n' && b != '\r' {
				line.WriteByte(b)
			}
		}
		if i%500_000 == 9_999 {
			line.WriteString(strings.Repeat("long ", 190_000))
		}
		if i%10 == 8 {
			line.Reset()
		}
		if i < n-1 {
			line.WriteByte('\n')
		}
		w.Write(line.Bytes())
	}
}

// A round trip is byte for byte, of any bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	roundTrip(t, 30_000)
}

// roundTrip sends n lines through both programs, and returns how much memory each has taken, in MB.
func roundTrip(t *testing.T, n int) (written, read int) {
	t.Helper()
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)

	want := sha256.New()
	writer := clitest.New(t, brokers, topic, "kafkawrite", "-blank")
	go func() {
		randomLines(io.MultiWriter(writer.Stdin, want), n)
		want.Write([]byte("\n")) // which kafkaread writes after the last line too
		writer.Stdin.Close()
	}()
	written = peak(writer.Start())
	writer.WantExit(0)
	if want := fmt.Sprintf("%d of %[1]d lines written\n", n); !strings.HasSuffix(writer.Err.String(), want) {
		t.Errorf("it says %q, want %q", writer.Err.String(), want)
	}

	got := sha256.New()
	reader := clitest.New(t, brokers, topic, "kafkaread", "-offset", "oldest", "-exit")
	reader.Cmd.Stdout = got
	read = peak(reader.Start())
	reader.WantExit(0)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("what was read is not what was written")
	}
	return written, read
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
