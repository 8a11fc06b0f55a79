package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafka"
)

// The walls between the packages: what a package must not import, directly, and why.
func TestWalls(t *testing.T) {
	t.Parallel()
	const module = "kafkachat/"
	walls := []struct {
		importer string // packages whose path begins so
		except   string // but not those
		imported string // must not import what begins so
		why      string
	}{
		{"", "internal/broker", "github.com/twmb/franz-go/pkg/kfake", "only the embedded broker knows what it is made of"},
		{"", "internal/broker internal/kafkatest internal/wire", "github.com/twmb/franz-go", "sarama is the project's client; these read and write its wire format"},
		{"", "chatserver/internal/sockets chatserver/internal/room chatserver/internal/chatclient chatserver/lesson/first chatserver/lesson/naive", "github.com/gorilla/websocket", "only sockets writes to websockets; room configures the handshake"},
		{"chatserver/internal/framelog", "", module, "the frame log knows bytes and offsets, and nothing else"},
		{"chatserver/internal/framelog", "", "github.com/", "the same"},
		{"chatserver/internal/sockets", "", "github.com/Shopify/sarama", "sockets knows nothing of Kafka"},
		{"chatserver/internal/sockets", "", module + "internal/", "the same"},
		{"chatserver/internal/sockets", "", module + "chatserver/internal/chat", "sockets moves bytes, whatever they mean"},
		{"chatserver/internal/chat", "", "net", "records are pure: no I/O"},
		{"chatserver/internal/chat", "", "os", "the same"},
		{"chatserver/internal/chat", "", module, "the same"},
		{"chatserver/internal/page", "", module, "the page knows nothing of the server"},
		{"chatserver/internal/publish", "", module + "chatserver", "the publisher meets the log through an interface"},
		{"kafkawrite", "", module + "chatserver", "the tools are programs of their own"},
		{"kafkaread", "", module + "chatserver", "the same"},
		{"internal/kafka", "internal/kafkatest", module + "chatserver", "everybody connects through it, so it depends on no program"},
		{"internal/kafka", "internal/kafkatest", module + "internal/broker", "it is a client of any broker"},
		{"internal/wire", "", module, "it knows bytes and nothing else"},
		{"", "internal/kafkatest internal/cli/clitest internal/realkafka chatserver/internal/browsertest chatserver/internal/chatclient chatserver/internal/podtest", "testing", "test support stays out of the programs"},
		{"", "internal/realkafka chatserver/internal/podtest", module + "internal/child", "the same"},
	}
	command := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		importer := strings.TrimPrefix(fields[0], module)
		for _, wall := range walls {
			if !below(importer, wall.importer) || slices.ContainsFunc(strings.Fields(wall.except), func(e string) bool { return importer == e }) {
				continue
			}
			for _, imported := range fields[1:] {
				if below(imported, wall.imported) {
					t.Errorf("%s imports %s: %s", importer, imported, wall.why)
				}
			}
		}
	}
}

// below says whether path is prefix or in its folder; every path is below "".
func below(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

// `go run chatserver/main.go` works only if nothing else belongs to the package.
func TestMainIsAlone(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"chatserver", "kafkaread", "kafkawrite"} {
		files, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name := filepath.Base(file); name != "main.go" && !strings.HasSuffix(name, "_test.go") {
				t.Errorf("%s: go run %s/main.go would not find it", file, folder)
			}
		}
	}
}

// The README's tables name every variable that the programs read.
func TestReadmeNamesEveryVariable(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range settings.Variables() {
		names = append(names, v.Name)
	}
	for _, v := range kafka.Variables() {
		names = append(names, v.Name)
	}
	for _, name := range names {
		if !bytes.Contains(readme, []byte("`"+name+"`")) {
			t.Errorf("README.md does not name %s", name)
		}
	}
}
