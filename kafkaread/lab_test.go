package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

// The lab has people change OffsetNewest to OffsetOldest in the line with ConsumePartition: then the
// program prints all that there is.
func TestTheLabsEdit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, overlay, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "edited")
	original, err := filepath.Abs("main.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		file:    strings.Replace(string(source), "sarama.OffsetNewest", "sarama.OffsetOldest", 1),
		overlay: fmt.Sprintf(`{"Replace": {%q: %q}}`, original, file),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "main.go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b")
	p := clitest.Start(t, brokers, topic, program)
	p.WaitFor(&p.Out, "^a\nb\n$")
	p.Interrupt()
	p.WantExit(0)
}
