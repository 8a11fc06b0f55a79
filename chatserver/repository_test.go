package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
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
		{"", "chatserver/internal/sockets chatserver/internal/room chatserver/internal/chatclient chatserver/lesson/first chatserver/lesson/naive",
			"github.com/gorilla/websocket", "only sockets writes to websockets; room configures the handshake"},
		{"chatserver/internal/framelog", "", module + " github.com/", "the frame log knows bytes and offsets, and nothing else"},
		{"chatserver/internal/sockets", "", "github.com/Shopify/sarama " + module + "internal/", "sockets knows nothing of Kafka"},
		{"chatserver/internal/sockets", "", module + "chatserver/internal/chat", "sockets moves bytes, whatever they mean"},
		{"chatserver/internal/chat", "", "net os " + module, "records are pure: no I/O"},
		{"chatserver/internal/page", "", module, "the page knows nothing of the server"},
		{"chatserver/internal/publish", "", module + "chatserver", "the publisher meets the log through an interface"},
		{"kafkawrite", "", module + "chatserver", "the tools are programs of their own"},
		{"kafkaread", "", module + "chatserver", "the same"},
		{"internal/kafka", "internal/kafkatest", module + "chatserver " + module + "internal/broker", "it is a client of any broker, for any program"},
		{"internal/wire", "", module, "it knows bytes and nothing else"},
		{"", "internal/kafkatest internal/leaktest internal/cli/clitest internal/realkafka chatserver/internal/browsertest " +
			"chatserver/internal/chatclient chatserver/internal/podtest", "testing " + module + "internal/child", "test support stays out of the programs"},
	}
	command := exec.Command("go", "list", "-f", `{{.ImportPath}} {{len .GoFiles}} {{join .Imports " "}}`, "./...")
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		importer := strings.TrimPrefix(fields[0], module)
		if slices.Contains([]string{"chatserver", "kafkaread", "kafkawrite"}, importer) && fields[1] != "1" {
			t.Errorf("go run %s/main.go would not find the other files of its package", importer)
		}
		for _, wall := range walls {
			if !below(importer, wall.importer) || slices.Contains(strings.Fields(wall.except), importer) {
				continue
			}
			for _, imported := range fields[2:] {
				if slices.ContainsFunc(strings.Fields(wall.imported), func(wall string) bool { return below(imported, wall) }) {
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

// The lab's calls stand in the lab's functions: SendMessage in handleWSConnections, ConsumePartition and Messages in the function
// below handleMessages, which nothing else calls. And what the README's table says about where the lab's lines are is true.
func TestWhereTheLabsLinesAre(t *testing.T) {
	t.Parallel()
	read := func(file string) string {
		text, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	main := read("chatserver/main.go")
	for _, want := range []string{`handleWSConnections\(.*\.SendMessage\(`, `handleMessages\(.*p\.consume\(.*\n}\n\nfunc \(p \*pod\) consume\(.*\.ConsumePartition\(.*\.Messages\(\)`} {
		want = `\nfunc \(p \*pod\) ` + strings.ReplaceAll(want, `.*`, `([^\n]|\n[^}])*?`) // within a function
		if !regexp.MustCompile(want).MatchString(main) || strings.Count(main, "p.consume(") != 1 {
			t.Errorf("main.go does not match %s, or others call consume, too", want)
		}
	}
	places := regexp.MustCompile("`([a-z/]+/main\\.go)`: `([A-Za-z]+)(?:\\(\\))?`").FindAllStringSubmatch(read("README.md"), -1)
	if len(places) < 8 {
		t.Errorf("README.md names %d places: %q", len(places), places)
	}
	for _, place := range places {
		if !strings.Contains(read(place[1]), place[2]) {
			t.Errorf("%s does not have %s", place[1], place[2])
		}
	}
}
