// The rules of this project for its manifests, beyond what schemas can say: names that the lab's commands use, and
// numbers and names in different files that must fit together.
package k8s_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// folders are what can be applied as a whole.
var folders = []string{".", "kraft", "local"}

func each(t *testing.T, test func(t *testing.T, objects []object)) {
	t.Helper()
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) { test(t, load(t, filepath.Join(folder, "*.yaml"))) })
	}
}

func TestNamesOfTheLab(t *testing.T) {
	for file, service := range map[string]port{
		"zookeeper.yaml":        {Name: "zookeeper", Port: 2181},
		"kafka.yaml":            {Name: "kafka", Port: 9092},
		"kraft/kafka.yaml":      {Name: "kafka", Port: 9092},
		"local/kafka.yaml":      {Name: "kafka", Port: 9092},
		"chatserver.yaml":       {Name: "chatserver", Port: 80},
		"local/chatserver.yaml": {Name: "chatserver", Port: 80},
	} {
		objects := load(t, file)
		if got := find(t, objects, "Service", service.Name).Spec.Ports[0].Port; got != service.Port {
			t.Errorf("%s: service %s has port %d, want %d", file, service.Name, got, service.Port)
		}
		if service.Name == "chatserver" {
			find(t, objects, "Ingress", "chatserver")
			if n := find(t, objects, "Deployment", "chatserver").Spec.Replicas; n != 1 {
				t.Errorf("%s begins with %d pods; the lab scales one by hand", file, n)
			}
		}
		for _, o := range objects {
			if got := o.Metadata.Labels["app"]; got != service.Name {
				t.Errorf("%s: %s %s has the label app=%q, want %q", file, o.Kind, o.Metadata.Name, got, service.Name)
			}
		}
	}
}

// Whatever selects pods must select those of its folder, and a service's port must be one that they have.
func TestSelectorsMatch(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		for _, o := range objects {
			selector := o.Spec.Selector
			if labels, ok := selector["matchLabels"].(map[string]any); ok {
				selector = labels
			}
			if len(selector) == 0 {
				continue
			}
			var selected []*pod
			for _, w := range objects {
				if w.Spec.Template != nil && matches(selector, w.Spec.Template.Metadata.Labels) {
					selected = append(selected, w.Spec.Template)
				}
			}
			if len(selected) != 1 {
				t.Errorf("%s: %s %s selects the pods of %d workloads, want 1", o.file, o.Kind, o.Metadata.Name, len(selected))
				continue
			}
			if o.Kind != "Service" {
				continue
			}
			for _, p := range o.Spec.Ports {
				if !slices.ContainsFunc(selected[0].Spec.Containers[0].Ports, func(c port) bool { return c.Name == p.TargetPort }) {
					t.Errorf("%s: service %s leads to the port %q, which its pods do not have", o.file, o.Metadata.Name, p.TargetPort)
				}
			}
		}
	})
}

// Besides the standard called "restricted": no service links, whose KAFKA_PORT Kafka's image takes for a setting, and
// images that are the same tomorrow.
func TestPods(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		for _, o := range objects {
			if o.Spec.Template == nil {
				continue
			}
			s, name := o.Spec.Template.Spec, o.file+": "+o.Metadata.Name
			if s.EnableServiceLinks == nil || *s.EnableServiceLinks {
				t.Errorf("%s: enableServiceLinks is not false", name)
			}
			if s.AutomountToken == nil || *s.AutomountToken {
				t.Errorf("%s: automountServiceAccountToken is not false", name)
			}
			if c := s.SecurityContext; !c.RunAsNonRoot || c.RunAsUser == 0 || c.SeccompProfile.Type != "RuntimeDefault" || s.HostNetwork {
				t.Errorf("%s: runAsNonRoot, a number for runAsUser, seccomp, and no hostNetwork: got %+v", name, c)
			}
			for _, c := range s.Containers {
				if c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation ||
					!slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
					t.Errorf("%s: allowPrivilegeEscalation is not false, or not all capabilities are dropped", name)
				}
				if !c.SecurityContext.ReadOnlyRootFilesystem && !strings.HasPrefix(c.Image, "apache/kafka:4") { // that image writes its configuration
					t.Errorf("%s: readOnlyRootFilesystem is not true", name)
				}
				if !regexp.MustCompile(`^[a-zA-Z0-9._/-]+:v?\d[\w.-]*$`).MatchString(c.Image) {
					t.Errorf("%s: the image %q has no version", name, c.Image)
				}
				if c.Resources.Requests["memory"] == "" || c.Resources.Requests["cpu"] == "" || c.Resources.Limits["memory"] == "" || c.Resources.Limits["cpu"] != "" {
					t.Errorf("%s: requests for CPU and memory, and a limit for memory only: got %v", name, c.Resources)
				}
				if c.ReadinessProbe == (probe{}) || c.StartupProbe == (probe{}) {
					t.Errorf("%s: a startup or readiness probe is missing", name)
				}
				if strings.Contains(c.Image, "kafka") && c.LivenessProbe != (probe{}) {
					t.Errorf("%s: a liveness probe kills a broker that reads its log", name)
				}
			}
			if s.Grace == 0 {
				t.Errorf("%s: how long a stop may take is not said", name)
			}
		}
	})
}

// What the load balancer needs from the manifests, and its controller does not complain about.
func TestLoadBalancer(t *testing.T) {
	objects := load(t, "chatserver.yaml")
	ingress, service := find(t, objects, "Ingress", "chatserver"), find(t, objects, "Service", "chatserver")
	backend, deployment := find(t, objects, "BackendConfig", "chatserver"), find(t, objects, "Deployment", "chatserver")
	if ingress.Spec.IngressClassName != "" || ingress.Metadata.Annotations["kubernetes.io/ingress.class"] != "gce" {
		t.Error("GKE wants the ingress class as an annotation, and does nothing if spec.ingressClassName is there")
	}
	if ingress.Spec.DefaultBackend.Service.Name != service.Metadata.Name {
		t.Errorf("the ingress leads to %q", ingress.Spec.DefaultBackend.Service.Name)
	}
	var config, neg map[string]any
	for name, into := range map[string]*map[string]any{"cloud.google.com/backend-config": &config, "cloud.google.com/neg": &neg} {
		if err := json.Unmarshal([]byte(service.Metadata.Annotations[name]), into); err != nil {
			t.Errorf("annotation %s: %v", name, err)
		}
	}
	if config["default"] != backend.Metadata.Name || neg["ingress"] != true {
		t.Errorf("the service's annotations say %v and %v", config, neg)
	}
	if backend.Spec.TimeoutSec != 86400 {
		t.Errorf("websockets would be cut after %d s", backend.Spec.TimeoutSec)
	}
	c := deployment.Spec.Template.Spec.Containers[0]
	if i := slices.IndexFunc(c.Ports, func(p port) bool { return p.Name == "http" }); i < 0 || c.Ports[i].ContainerPort != backend.Spec.HealthCheck.Port {
		t.Errorf("the health check asks port %d, the container has %v", backend.Spec.HealthCheck.Port, c.Ports)
	}
	if got, want := backend.Spec.HealthCheck.RequestPath, c.ReadinessProbe.HTTPGet.Path; got != want {
		t.Errorf("the health check asks for %s, the readiness probe for %s", got, want)
	}
	if len(service.Spec.Ports) != 1 || service.Spec.Ports[0].TargetPort != "http" {
		t.Error("only the page's port may be reached from outside, not the metrics")
	}
}

// apply -k must apply all, with every image of ours renamed.
func TestKustomizations(t *testing.T) {
	for _, folder := range folders {
		var k struct {
			Resources []string
			Images    []struct{ Name string }
		}
		if err := yaml.Unmarshal(read(t, filepath.Join(folder, "kustomization.yaml")), &k); err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		files, _ := filepath.Glob(filepath.Join(folder, "*.yaml"))
		for _, file := range files {
			if name := filepath.Base(file); name != "kustomization.yaml" && !slices.Contains(k.Resources, name) {
				t.Errorf("%s is not in its folder's kustomization.yaml", file)
			}
		}
		for _, o := range load(t, filepath.Join(folder, "*.yaml")) {
			if o.Spec.Template == nil {
				continue
			}
			image, _, _ := strings.Cut(o.Spec.Template.Spec.Containers[0].Image, ":")
			named := slices.ContainsFunc(k.Images, func(i struct{ Name string }) bool { return i.Name == image })
			if strings.Contains(image, "PROJECT_ID") != named || (folder != "." && named) {
				t.Errorf("%s: %s must be among the images of kustomization.yaml if, and only if, it has PROJECT_ID in it", o.file, image)
			}
		}
	}
}

// The two files with a chat server may differ in what is around it, not in the server.
func TestLocalChatServerIsTheSame(t *testing.T) {
	gke := find(t, load(t, "chatserver.yaml"), "Deployment", "chatserver").Spec.Template.Spec
	local := find(t, load(t, "local/chatserver.yaml"), "Deployment", "chatserver").Spec.Template.Spec
	a, b := gke.Containers[0], local.Containers[0]
	a.Image, b.Image = "", ""
	a.Resources.Requests, b.Resources.Requests = nil, nil
	if x, y := fmt.Sprintf("%+v", text(t, a)), fmt.Sprintf("%+v", text(t, b)); x != y {
		t.Errorf("chatserver.yaml has\n%s\nlocal/chatserver.yaml has\n%s", x, y)
	}
	if text(t, gke.SecurityContext) != text(t, local.SecurityContext) {
		t.Errorf("they run as %+v and as %+v", gke.SecurityContext, local.SecurityContext)
	}
}

// The three brokers name each other, and what they keep has as many copies as there are brokers.
func TestKraft(t *testing.T) {
	objects := load(t, "kraft/*.yaml")
	set := find(t, objects, "StatefulSet", "kafka")
	headless := find(t, objects, "Service", set.Spec.ServiceName)
	if headless.Spec.ClusterIP != "None" || !headless.Spec.PublishNotReady || set.Spec.PodManagement != "Parallel" {
		t.Error("the brokers cannot find each other before one is ready")
	}
	env := environment(set)
	var voters []string
	for i := range set.Spec.Replicas {
		voters = append(voters, fmt.Sprintf("%d@kafka-%d.%s:9093", i, i, set.Spec.ServiceName))
	}
	for name, want := range map[string]string{
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                         strings.Join(voters, ","),
		"KAFKA_ADVERTISED_LISTENERS":                             "CLIENT://$(POD_NAME)." + set.Spec.ServiceName + ":9092",
		"KAFKA_DEFAULT_REPLICATION_FACTOR":                       "3",
		"KAFKA_MIN_INSYNC_REPLICAS":                              "2",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "3",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "3",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "2",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "3",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "2",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	// A controller's address must be known before the container's environment refers to it.
	if names := names(set); slices.Index(names, "POD_NAME") > slices.Index(names, "KAFKA_ADVERTISED_LISTENERS") {
		t.Error("$(POD_NAME) is used before POD_NAME is set")
	}
}

// The image's configuration and the manifest that runs it.
func TestDockerkafka(t *testing.T) {
	file := string(read(t, "../Dockerkafka"))
	objects := load(t, "kafka.yaml")
	service, deployment := find(t, objects, "Service", "kafka"), find(t, objects, "Deployment", "kafka")
	overrides := make(map[string]string)
	for _, m := range regexp.MustCompile(`"--override", "([^=]+)=([^"]*)"`).FindAllStringSubmatch(file, -1) {
		overrides[m[1]] = m[2]
	}
	if want := fmt.Sprintf("CLIENT://%s:%d,", service.Metadata.Name, service.Spec.Ports[0].Port); !strings.HasPrefix(overrides["advertised.listeners"], want) {
		t.Errorf("Kafka advertises %q, want %s first", overrides["advertised.listeners"], want)
	}
	if overrides["zookeeper.connect"] != "zookeeper:2181" {
		t.Errorf("its ZooKeeper is %q", overrides["zookeeper.connect"])
	}
	c := deployment.Spec.Template.Spec.Containers[0]
	if !strings.HasPrefix(overrides["log.dirs"], c.Mounts[0].MountPath+"/") {
		t.Errorf("the records are in %q, the volume in %q: they must be below it, not at its top, where lost+found is", overrides["log.dirs"], c.Mounts[0].MountPath)
	}
	user := fmt.Sprintf("\nUSER %[1]d:%[1]d\n", deployment.Spec.Template.Spec.SecurityContext.RunAsUser)
	if !strings.Contains(file, user) {
		t.Errorf("the image and the manifest name different users")
	}
	for _, o := range []object{deployment, find(t, load(t, "zookeeper.yaml"), "Deployment", "zookeeper"), find(t, load(t, "local/kafka.yaml"), "Deployment", "kafka")} {
		if o.Spec.Strategy.Type != "Recreate" {
			t.Errorf("%s: a second %s would be started on the same volume", o.file, o.Metadata.Name)
		}
	}
}

// What the images are built from must be versions too, the distroless one's tag being its only name.
func TestBaseImages(t *testing.T) {
	stages := map[string]bool{"scratch": true}
	for _, name := range []string{"../Dockerkafka", "../chatserver/Dockerfile"} {
		for _, m := range regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)(?: AS (\S+))?$`).FindAllStringSubmatch(string(read(t, name)), -1) {
			if !stages[m[1]] && !regexp.MustCompile(`:\d+\.\d+\.\d+$|/static-debian\d+:nonroot$`).MatchString(m[1]) {
				t.Errorf("%s begins from %q, which may be another one tomorrow; known stages: %v", name, m[1], slices.Collect(maps.Keys(stages)))
			}
			stages[m[2]] = true
		}
	}
}
