package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/room"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafka"
)

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
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		number := func(pattern string) (n int) { // 0 if it is not there
			if found := regexp.MustCompile(pattern).FindSubmatch(text); found != nil {
				n, _ = strconv.Atoi(string(found[1]))
			}
			return n
		}
		env := make(map[string]string)
		for _, v := range regexp.MustCompile(`\n +- \{name: ([A-Za-z_]+), value(?:From)?: "?([^"}]+)`).FindAllSubmatch(text, -1) {
			if env[string(v[1])] = string(v[2]); !strings.Contains(known, "{"+string(v[1])+" ") {
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
		if draining := seconds(`drainingTimeoutSec: (\d+)`); regexp.MustCompile(`kind: BackendConfig`).Match(text) && draining < grace {
			t.Errorf("%s: the load balancer cuts connections after %s, the pod may take %s", file, draining, grace)
		}
	}
}
