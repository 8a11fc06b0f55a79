package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/room"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafka"
)

// The walls between the packages: what a package must not import, directly, and why.
func TestWalls(t *testing.T) {
	t.Parallel()
	const module, lab = "kafkachat/", "chatserver/lesson/first chatserver/lesson/naive"
	walls := []struct {
		importer string // packages whose path begins so
		except   string // but not those
		imported string // must not import what begins so
		why      string
	}{
		{"", "internal/broker", "github.com/twmb/franz-go/pkg/kfake", "only the embedded broker knows what it is made of"},
		{"", "internal/broker internal/kafkatest internal/wire", "github.com/twmb/franz-go", "sarama is the client; these know its format"},
		{"", lab + " chatserver/internal/sockets chatserver/internal/room chatserver/internal/chatclient",
			"github.com/gorilla/websocket", "only sockets writes to websockets; room configures the handshake"},
		{"chatserver/internal/framelog", "", module + " github.com/", "the frame log knows bytes and offsets, and nothing else"},
		{"chatserver/internal/sockets", "", "github.com/Shopify/sarama " + module + "internal/", "sockets knows nothing of Kafka"},
		{"chatserver/internal/sockets", "", module + "chatserver/internal/chat", "sockets moves bytes, whatever they mean"},
		{"chatserver/internal/chat", "", "net os " + module, "records are pure: no I/O"},
		{"chatserver/internal/page", "", module, "the page knows nothing of the server"},
		{"chatserver/internal/publish", "", module + "chatserver", "the publisher meets the log through an interface"},
		{"kafkawrite", "", module + "chatserver", "the tools are programs of their own"},
		{"kafkaread", "", module + "chatserver", "the same"},
		{"internal/kafka", "internal/kafkatest", module + "chatserver " + module + "internal/broker", "it is any program's client of any broker"},
		{"internal/wire", "", module, "it knows bytes and nothing else"},
		{"", "internal/kafkatest internal/leaktest internal/cli/clitest internal/realkafka chatserver/internal/browsertest " +
			"chatserver/internal/chatclient chatserver/internal/podtest", "testing " + module + "internal/child", "it is test support"},
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

// The lab's calls stand in the lab's functions, or in the one below, which nothing else calls; and in the README's table.
func TestWhereTheLabsLinesAre(t *testing.T) {
	t.Parallel()
	main := readFile(t, "main.go")
	for _, want := range []string{`handleWSConnections\(.*\.SendMessage\(`,
		`handleMessages\(.*p\.consume\(.*\n}\n\nfunc \(p \*pod\) consume\(.*\.ConsumePartition\(.*\.Messages\(\)`} {
		want = `\nfunc \(p \*pod\) ` + strings.ReplaceAll(want, `.*`, `([^\n]|\n[^}])*?`) // within a function
		if !regexp.MustCompile(want).MatchString(main) || strings.Count(main, "p.consume(") != 1 {
			t.Errorf("main.go does not match %s, or others call consume, too", want)
		}
	}
	places := regexp.MustCompile("`([a-z/]+/main\\.go)`: `([A-Za-z]+)(?:\\(\\))?`").FindAllStringSubmatch(readFile(t, "../README.md"), -1)
	if len(places) < 8 {
		t.Errorf("README.md names %d places: %q", len(places), places)
	}
	for _, place := range places {
		if !strings.Contains(readFile(t, "../"+place[1]), place[2]) {
			t.Errorf("%s does not have %s", place[1], place[2])
		}
	}
}

// What a pod costs at most, in bytes, beside what its settings say.
const (
	kiB, miB         = 1 << 10, 1 << 20
	ownMemory        = 100 * miB // the runtime, the ids of the dedupe window, what sarama holds of a fetch
	connectionMemory = 16 * kiB  // of Go's heap: 9.5 kB were measured for an idle one
	kernelMemory     = 512 * kiB // what the kernel keeps of a client that neither reads nor is read
	otherConnections = 512       // HTTP connections that are no websockets: share of internal/room
	otherMemory      = 64 * kiB  // of Go's heap for each: headers and buffers
	otherKernel      = 256 * kiB
)

// A manifest's environment is one that the server reads; its limits multiply out to less memory than the pod has; and a stop fits
// into the time that the cluster gives a pod, and that into the load balancer's. .ci/k8s checks that the manifests are valid.
func TestManifests(t *testing.T) {
	known := fmt.Sprint("{GOMEMLIMIT ", settings.Variables(), kafka.Variables()) // GOMEMLIMIT is Go's own
	for _, file := range []string{"../k8s/chatserver.yaml", "../k8s/local/chatserver.yaml"} {
		text := readFile(t, file)
		number := func(pattern string) (n int) { // 0 if it is not there
			if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
				n, _ = strconv.Atoi(found[1])
			}
			return n
		}
		env := make(map[string]string)
		for _, v := range regexp.MustCompile(`\n +- \{name: ([A-Za-z_]+), value(?:From)?: "?([^"}]+)`).FindAllStringSubmatch(text, -1) {
			if env[v[1]] = v[2]; !strings.Contains(known, "{"+v[1]+" ") {
				t.Errorf("%s: the server does not read %s", file, v[1])
			}
		}
		env["POD_NAME"] = "" // from the cluster
		c, err := settings.Load(nil, func(name string) string { return env[name] }, nil)
		if err != nil {
			t.Fatalf("%s: the server would not start: %v", file, err)
		}
		if port := number(`\{name: http, containerPort: (\d+)\}`); c.Embedded || c.Port != port {
			t.Errorf("%s: the server listens on %d, the manifest says %d; with a broker inside: %v", file, c.Port, port, c.Embedded)
		}
		heap, limit := number(`GOMEMLIMIT, value: (\d+)MiB\}`)*miB, number(`limits: \{memory: (\d+)Mi\}`)*miB
		connections := c.Limits.Connections
		if need := ownMemory + room.UnreadBytes + c.LogBytes + connections*connectionMemory + otherConnections*otherMemory; need > heap {
			t.Errorf("%s: Go's heap may need %d MiB, GOMEMLIMIT is %d MiB", file, need/miB, heap/miB)
		}
		if need := heap + connections*kernelMemory + otherConnections*otherKernel; need > limit || connections == 0 {
			t.Errorf("%s: heap and %d sockets may need %d MiB, the pod has %d MiB", file, connections, need/miB, limit/miB)
		}
		seconds := func(pattern string) time.Duration { return time.Duration(number(pattern)) * time.Second }
		preStop, grace := seconds(`preStop: \{sleep: \{seconds: (\d+)\}\}`), seconds(`\n {6}terminationGracePeriodSeconds: (\d+)`)
		if preStop == 0 || preStop+c.DrainTimeout+5*time.Second > grace { // 5 s for the process to end, and a busy node
			t.Errorf("%s: preStop %s + DRAIN_TIMEOUT %s is too much for the %s until the pod is killed", file, preStop, c.DrainTimeout, grace)
		}
		if draining := seconds(`drainingTimeoutSec: (\d+)`); strings.Contains(text, "kind: BackendConfig") && draining < grace {
			t.Errorf("%s: the load balancer cuts connections after %s, the pod may take %s", file, draining, grace)
		}
	}
}
