package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"kafkachat/chatserver/internal/room"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafka"
)

const kiB, miB = 1 << 10, 1 << 20

// What a pod costs at most, in bytes, beside what its settings say.
const (
	ownMemory        = 100 * miB // the runtime, the ids of the dedupe window, what sarama holds of a fetch
	connectionMemory = 16 * kiB  // of Go's heap: 9.5 kB were measured for an idle one
	kernelMemory     = 512 * kiB // what the kernel keeps of a client that neither reads nor is read
	otherConnections = 512       // HTTP connections that are no websockets: share of internal/room
	otherMemory      = 64 * kiB  // of Go's heap for each: headers and buffers
	otherKernel      = 256 * kiB
)

// A manifest's environment is one that the server reads; its limits multiply out to less memory than
// the pod has; and a stop fits into the time that the cluster gives a pod, and that into the load
// balancer's.
func TestManifests(t *testing.T) {
	known := []string{"GOMEMLIMIT"} // Go's own
	for _, v := range settings.Variables() {
		known = append(known, v.Name)
	}
	for _, v := range kafka.Variables() {
		known = append(known, v.Name)
	}
	for _, file := range []string{"../k8s/chatserver.yaml", "../k8s/local/chatserver.yaml"} {
		t.Run(file, func(t *testing.T) {
			m := readManifest(t, file)
			container := m.Spec.Template.Spec.Containers[0]
			env := make(map[string]string)
			for _, v := range container.Env {
				if env[v.Name] = v.Value; !slices.Contains(known, v.Name) {
					t.Errorf("the server does not read %s", v.Name)
				}
			}
			c, err := settings.Load(func(name string) string { return env[name] })
			if err != nil {
				t.Fatalf("the server would not start: %v", err)
			}
			if c.Embedded {
				t.Error("the pods would be islands")
			}
			if c.Port != container.Ports[0].ContainerPort {
				t.Errorf("the server listens on %d, the manifest says %d", c.Port, container.Ports[0].ContainerPort)
			}

			heap, limit := mebibytes(t, env["GOMEMLIMIT"], "MiB"), mebibytes(t, container.Resources.Limits["memory"], "Mi")
			connections := c.Limits.Connections
			if need := ownMemory + room.UnreadBytes + c.LogBytes + connections*connectionMemory + otherConnections*otherMemory; need > heap {
				t.Errorf("Go's heap may need %d MiB, GOMEMLIMIT is %d MiB", need/miB, heap/miB)
			}
			if need := heap + connections*kernelMemory + otherConnections*otherKernel; need > limit || connections == 0 {
				t.Errorf("heap and %d sockets may need %d MiB, the pod has %d MiB", connections, need/miB, limit/miB)
			}

			seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
			preStop, grace := seconds(container.Lifecycle.PreStop.Sleep.Seconds), seconds(m.Spec.Template.Spec.Grace)
			const spare = 5 * time.Second // for the process to end, and a busy node
			if preStop == 0 || preStop+c.DrainTimeout+spare > grace {
				t.Errorf("preStop %s + DRAIN_TIMEOUT %s + %s is more than the %s until the pod is killed", preStop, c.DrainTimeout, spare, grace)
			}
			if draining := seconds(m.draining); m.hasBackend && draining < grace {
				t.Errorf("the load balancer cuts connections after %s, the pod may take %s", draining, grace)
			}
		})
	}
}

// The dashboard, the alerts and the README ask for metrics that the server has, and the alerts are the
// README's queries.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	_, _, admin := startLogged(t, nil)
	response, err := http.Get(admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, file := range []string{"README.md", "../k8s/monitoring/alerts.yaml", "../k8s/monitoring/dashboard.json", "../k8s/hpa/hpa.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[file] = string(b)
		names := regexp.MustCompile(`\b(chat|process|go)_[a-z_]+\b`).FindAllString(files[file], -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).Match(metrics) {
				t.Errorf("%s names %s, which the server does not have", file, name)
			}
		}
	}
	_, figures, _ := strings.Cut(files["README.md"], "## What to watch")
	queries := regexp.MustCompile("(?m)^\\| [^|]*\\| `([^`]+)` \\|").FindAllStringSubmatch(figures, -1)
	if len(queries) != 5 {
		t.Errorf("the README has %d queries", len(queries))
	}
	for _, q := range queries {
		if query := strings.Replace(q[1], "max(", "max by (pod) (", 1); !strings.Contains(files["../k8s/monitoring/alerts.yaml"], "expr: "+query+" ") {
			t.Errorf("no alert asks for %s", query)
		}
	}
}

func mebibytes(t *testing.T, s, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(s, unit))
	if err != nil {
		t.Fatalf("%q is not a number of %s", s, unit)
	}
	return n * miB
}

type manifest struct {
	Kind string
	Spec struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Env   []struct{ Name, Value string }
					Ports []struct {
						ContainerPort int `yaml:"containerPort"`
					}
					Resources struct{ Limits map[string]string }
					Lifecycle struct {
						PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
					}
				}
			}
		}
		ConnectionDraining struct {
			Seconds int `yaml:"drainingTimeoutSec"`
		} `yaml:"connectionDraining"`
	}
	hasBackend bool
	draining   int // seconds, of the load balancer
}

// readManifest returns the file's Deployment, and what its BackendConfig, if there is one, says.
func readManifest(t *testing.T, file string) manifest {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var deployment, backend manifest
	for decoder := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var m manifest
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		switch m.Kind {
		case "Deployment":
			deployment = m
		case "BackendConfig":
			backend = m
		}
	}
	if len(deployment.Spec.Template.Spec.Containers) == 0 {
		t.Fatalf("%s has no Deployment", file)
	}
	deployment.hasBackend, deployment.draining = backend.Kind != "", backend.Spec.ConnectionDraining.Seconds
	return deployment
}
