package k8s_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An object is what the tests look at in any kind of object.
type object struct {
	file       string
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Labels      map[string]string
		Annotations map[string]string
	}
	Spec struct {
		Replicas           int
		Type               string
		Selector           map[string]any
		Strategy           struct{ Type string }
		ServiceName        string                                  `yaml:"serviceName"`
		ClusterIP          string                                  `yaml:"clusterIP"`
		PublishNotReady    bool                                    `yaml:"publishNotReadyAddresses"`
		PodManagement      string                                  `yaml:"podManagementPolicy"`
		IngressClassName   string                                  `yaml:"ingressClassName"`
		DefaultBackend     struct{ Service struct{ Name string } } `yaml:"defaultBackend"`
		Ports              []port
		Template           *pod
		TimeoutSec         int `yaml:"timeoutSec"`
		ConnectionDraining struct {
			DrainingTimeoutSec int `yaml:"drainingTimeoutSec"`
		} `yaml:"connectionDraining"`
		HealthCheck struct {
			RequestPath string `yaml:"requestPath"`
			Port        int
		} `yaml:"healthCheck"`
	}
}

type port struct {
	Name          string
	Port          int
	TargetPort    string `yaml:"targetPort"`
	ContainerPort int    `yaml:"containerPort"`
}

type pod struct {
	Metadata struct{ Labels map[string]string }
	Spec     struct {
		EnableServiceLinks *bool `yaml:"enableServiceLinks"`
		AutomountToken     *bool `yaml:"automountServiceAccountToken"`
		Grace              int   `yaml:"terminationGracePeriodSeconds"`
		HostNetwork        bool  `yaml:"hostNetwork"`
		SecurityContext    struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			RunAsUser      int                   `yaml:"runAsUser"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []container
	}
}

type container struct {
	Name            string
	Image           string
	Env             []variable
	Ports           []port
	ReadinessProbe  probe `yaml:"readinessProbe"`
	StartupProbe    probe `yaml:"startupProbe"`
	LivenessProbe   probe `yaml:"livenessProbe"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	Resources struct{ Requests, Limits map[string]string }
	Mounts    []struct {
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type variable struct{ Name, Value string }

type probe struct {
	HTTPGet   *struct{ Path, Port string } `yaml:"httpGet"`
	TCPSocket *struct{ Port string }       `yaml:"tcpSocket"`
}

// load returns the objects of the named files, and fails if there are none.
func load(t *testing.T, pattern string) []object {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests match %s: %v", pattern, err)
	}
	var objects []object
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		decoder := yaml.NewDecoder(bytes.NewReader(read(t, file)))
		for {
			o := object{file: file}
			err := decoder.Decode(&o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func find(t *testing.T, objects []object, kind, name string) object {
	t.Helper()
	for _, o := range objects {
		if o.Kind == kind && o.Metadata.Name == name {
			return o
		}
	}
	t.Fatalf("there is no %s %q", kind, name)
	return object{}
}

func matches(selector map[string]any, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return true
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func environment(o object) map[string]string {
	env := make(map[string]string)
	for _, v := range o.Spec.Template.Spec.Containers[0].Env {
		env[v.Name] = v.Value
	}
	return env
}

func names(o object) []string {
	var names []string
	for _, v := range o.Spec.Template.Spec.Containers[0].Env {
		names = append(names, v.Name)
	}
	return names
}
