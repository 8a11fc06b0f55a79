package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) { clitest.Main(m, "kafkaread", main, "kafkawrite") }

func TestScripts(t *testing.T) { clitest.Scripts(t) }

// The lab has people change OffsetNewest to OffsetOldest in the line with ConsumePartition: then the
// program prints all that there is. Cut off, the program says so, waits, and misses and repeats nothing.
func TestTheLabsEdit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	edited, overlay, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "edited")
	original, unknown := filepath.Abs("main.go")
	source, err := os.ReadFile(original)
	text := strings.Replace(string(source), "sarama.OffsetNewest", "sarama.OffsetOldest", 1)
	replace := fmt.Sprintf(`{"Replace": {%q: %q}}`, original, edited)
	if err := errors.Join(unknown, err, os.WriteFile(edited, []byte(text), 0o644), os.WriteFile(overlay, []byte(replace), 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "main.go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	kafkatest.Produce(t, brokers, topic, "a", "b")
	proxy := kafkatest.NewProxy(t, brokers)
	p := clitest.Start(t, proxy.Addr(), topic, program)
	p.WaitFor(&p.Out, "^a\nb\n$")
	proxy.Refuse(true)
	proxy.Cut()
	p.WaitFor(&p.Err, `^kafkaread: partition 0: .*; still trying\n`)
	kafkatest.Produce(t, brokers, topic, "c")
	proxy.Refuse(false)
	p.WaitFor(&p.Out, "^a\nb\nc\n$")
	p.WaitFor(&p.Err, `\nkafkaread: partition 0 goes on\n$`)
	p.Interrupt()
	p.WantExit(0)
}
