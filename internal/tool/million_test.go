package tool_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

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
		if i%500_000 == 499_999 {
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

// TestMillionLines sends a million lines through both programs, byte for byte, and looks at the memory that they take.
func TestMillionLines(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a million lines take a while")
	}
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	const n = 1_000_000

	command := func(name string, args ...string) (*exec.Cmd, *buffer) {
		cmd, stderr := exec.Command(name, args...), new(buffer)
		cmd.Env = append(os.Environ(), "KAFKA_BROKER="+brokers, "TOPIC="+topic)
		cmd.Stderr = stderr
		return cmd, stderr
	}
	writer, report := command("kafkawrite", "-blank")
	stdin, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	go func() {
		randomLines(io.MultiWriter(stdin, want), n)
		want.Write([]byte("\n")) // which kafkaread writes after the last line too
		stdin.Close()
	}()
	if err := writer.Run(); err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	if want := fmt.Sprintf("%d of %[1]d lines written\n", n); !strings.HasSuffix(report.String(), want) {
		t.Errorf("it says %q, want %q", report, want)
	}

	reader, trouble := command("kafkaread", "-offset", "oldest", "-exit")
	got := sha256.New()
	reader.Stdout = got
	if err := reader.Run(); err != nil {
		t.Fatalf("%v\n%s", err, trouble)
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("what was read is not what was written")
	}
	if len(buildFlags) > 0 {
		return // the race detector takes memory of its own
	}
	for _, cmd := range []*exec.Cmd{writer, reader} {
		if peak := peakMemory(cmd.ProcessState); peak > 100<<20 {
			t.Errorf("%s took %d MB", cmd.Args[0], peak>>20)
		}
	}
}
