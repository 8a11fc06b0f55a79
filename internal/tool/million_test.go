package tool_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/kafkatest"
)

// randomLines writes n lines of any bytes, empty ones and long ones among them; the last one has no end. A million of them
// are less than the embedded broker keeps of a topic.
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
		if i%500_000 == 99_999 {
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

// TestMillionLines sends a million lines (in short, a tenth) through both programs, byte for byte, and looks at the memory that they take.
func TestMillionLines(t *testing.T) {
	t.Parallel()
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)

	want := sha256.New()
	writer := exec.Command("kafkawrite", "-blank")
	stdin, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		randomLines(io.MultiWriter(stdin, want), n)
		want.Write([]byte("\n")) // which kafkaread writes after the last line too
		stdin.Close()
	}()
	report := runWatched(t, writer, brokers, topic)
	if want := fmt.Sprintf("%d of %[1]d lines written\n", n); !strings.HasSuffix(report, want) {
		t.Errorf("it says %q, want %q", report, want)
	}

	got := sha256.New()
	reader := exec.Command("kafkaread", "-offset", "oldest", "-exit")
	reader.Stdout = got
	runWatched(t, reader, brokers, topic)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("what was read is not what was written")
	}
}

// runWatched runs a program, checks that it takes less than 100 MB of memory, and returns what it says on stderr.
func runWatched(t *testing.T, cmd *exec.Cmd, brokers, topic string) string {
	t.Helper()
	stderr := new(buffer)
	cmd.Env = append(os.Environ(), "KAFKA_BROKER="+brokers, "TOPIC="+topic)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// The kernel's figure at the end (ru_maxrss) would count this process too, of which the program is a copy at first.
	peak := 0
	highWater := regexp.MustCompile(`VmHWM:\s*(\d+) kB`)
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, stderr)
			}
			t.Logf("%s took %d MB", cmd.Args[0], peak>>10)
			if len(buildFlags) == 0 && peak > 100<<10 { // the race detector takes memory of its own
				t.Errorf("%s took %d MB", cmd.Args[0], peak>>10)
			}
			return stderr.String()
		case <-time.After(20 * time.Millisecond):
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // Linux only
			if match := highWater.FindSubmatch(status); match != nil {
				peak, _ = strconv.Atoi(string(match[1]))
			}
		}
	}
}
