package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafka"
)

// A manifest's environment must be one that this server reads, and its stop must fit into the time that the cluster
// gives a pod, and that in turn into the load balancer's.
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
