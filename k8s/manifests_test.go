// Package k8s_test checks what schemas cannot: numbers and names in different manifests that must
// fit together. `.ci/k8s` checks the schemas.
package k8s_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// folders are what can be applied as a whole.
var folders = []string{".", "kraft", "local"}

func each(t *testing.T, test func(t *testing.T, objects []object)) {
	t.Helper()
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) { test(t, load(t, filepath.Join(folder, "*.yaml"))) })
	}
}

// The lab's commands name these, and all objects have the lab's label and the recommended ones.
func TestNames(t *testing.T) {
	for file, port := range map[string]int{
		"zookeeper.yaml": 2181, "kafka.yaml": 9092, "kraft/kafka.yaml": 9092, "local/kafka.yaml": 9092,
		"chatserver.yaml": 80, "local/chatserver.yaml": 80,
	} {
		objects, app := load(t, file), strings.TrimSuffix(filepath.Base(file), ".yaml")
		if got := number(find(t, objects, "Service "+app), "spec ports 0 port"); got != port {
			t.Errorf("%s: the service has port %d, want %d", file, got, port)
		}
		if app == "chatserver" && (find(t, objects, "Ingress chatserver") == nil || number(find(t, objects, "Deployment chatserver"), "spec replicas") != 1) {
			t.Errorf("%s does not begin with one pod; the lab scales it by hand", file)
		}
		for _, o := range objects {
			want := fmt.Sprint(app, app, "kafkachat")
			for _, labels := range []any{at(o, "metadata labels"), at(o, "spec template metadata labels")} {
				if labels == nil {
					continue
				}
				if got := fmt.Sprint(at(labels, "app"), at(labels, "app.kubernetes.io/name"), at(labels, "app.kubernetes.io/part-of")); got != want {
					t.Errorf("%s: %s has the labels %v", file, name(o), labels)
				}
			}
		}
	}
}

// Each selector selects the pods of one workload of its folder, and the ports that services,
// policies and collectors of metrics name are ports of those pods.
func TestSelectors(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		for _, o := range append(objects, load(t, "monitoring/podmonitoring.yaml")...) {
			selector := at(o, "spec selector")
			if kind := text(o, "kind"); kind == "NetworkPolicy" {
				selector = at(o, "spec podSelector")
			}
			var selected []object
			for _, w := range workloads(objects) {
				if selector != nil && matches(selector, at(w, "spec template metadata labels")) {
					selected = append(selected, w)
				}
			}
			if selector == nil || text(o, "kind") == "PodMonitoring" && len(selected) == 0 {
				continue
			}
			if len(selected) != 1 {
				t.Errorf("%s selects the pods of %d workloads, want 1", name(o), len(selected))
				continue
			}
			var named []any
			for _, rule := range append(list(o, "spec ingress"), at(o, "spec")) {
				for _, p := range append(list(rule, "ports"), list(rule, "endpoints")...) {
					named = append(named, cmp.Or(at(p, "targetPort"), at(p, "port")))
				}
			}
			ports := list(selected[0], "spec template spec containers 0 ports")
			for _, n := range named {
				if !slices.ContainsFunc(ports, func(p any) bool { return at(p, "name") == n || at(p, "containerPort") == n }) {
					t.Errorf("%s names the port %v, which its pods do not have", name(o), n)
				}
			}
		}
	})
}

// Every pod keeps to the standard "restricted". Service links would set KAFKA_PORT and the like,
// which Kafka's images take for settings. A liveness probe would kill a broker that reads its log.
func TestPods(t *testing.T) {
	each(t, func(t *testing.T, objects []object) {
		for _, o := range workloads(objects) {
			pod, c := at(o, "spec template spec"), at(o, "spec template spec containers 0")
			for path, want := range map[string]any{
				"enableServiceLinks": false, "automountServiceAccountToken": false, "hostNetwork": nil,
				"securityContext runAsNonRoot": true, "securityContext seccompProfile type": "RuntimeDefault",
				"containers 0 securityContext allowPrivilegeEscalation": false, "containers 0 securityContext capabilities drop 0": "ALL",
				"containers 0 resources limits cpu": nil, "containers 1": nil,
			} {
				if got := at(pod, path); got != want {
					t.Errorf("%s: %s is %v, want %v", name(o), path, got, want)
				}
			}
			for _, path := range []string{
				"securityContext runAsUser", "terminationGracePeriodSeconds", "containers 0 startupProbe", "containers 0 readinessProbe",
				"containers 0 resources requests cpu", "containers 0 resources requests memory", "containers 0 resources limits memory",
			} {
				if at(pod, path) == nil {
					t.Errorf("%s: %s is not set", name(o), path)
				}
			}
			image := text(c, "image")
			if !regexp.MustCompile(`^[a-zA-Z0-9._/-]+:v?\d[\w.-]*$`).MatchString(image) {
				t.Errorf("%s: the image %q has no version", name(o), image)
			}
			// The image of Kafka 4 writes its configuration.
			if at(c, "securityContext readOnlyRootFilesystem") != true && !strings.HasPrefix(image, "apache/kafka:4") {
				t.Errorf("%s: readOnlyRootFilesystem is not true", name(o))
			}
			if strings.Contains(image, "kafka:") && at(c, "livenessProbe") != nil {
				t.Errorf("%s has a liveness probe", name(o))
			}
			if text(o, "kind") == "Deployment" && at(pod, "volumes") != nil && text(o, "spec strategy type") != "Recreate" {
				t.Errorf("%s: a rollout would start a second pod on the same volume", name(o))
			}
		}
	})
}

// What the load balancer needs from the manifests, and what its controller stumbles over silently.
func TestLoadBalancer(t *testing.T) {
	objects := load(t, "chatserver.yaml")
	ingress, service := find(t, objects, "Ingress chatserver"), find(t, objects, "Service chatserver")
	backend, deployment := find(t, objects, "BackendConfig chatserver"), find(t, objects, "Deployment chatserver")
	if at(ingress, "spec ingressClassName") != nil || text(ingress, "metadata annotations kubernetes.io/ingress.class") != "gce" {
		t.Error("GKE wants the ingress class as an annotation, and does nothing if spec.ingressClassName is there")
	}
	for annotation, want := range map[string]string{"backend-config": `{"default":"chatserver"}`, "neg": `{"ingress":true}`} {
		if got := strings.ReplaceAll(text(service, "metadata annotations cloud.google.com/"+annotation), " ", ""); got != want {
			t.Errorf("annotation %s is %s, want %s", annotation, got, want)
		}
	}
	if got := number(backend, "spec timeoutSec"); got != 86400 {
		t.Errorf("websockets would be cut after %d s", got)
	}
	c := at(deployment, "spec template spec containers 0")
	if at(c, "ports 0 containerPort") != at(backend, "spec healthCheck port") || at(c, "readinessProbe httpGet path") != at(backend, "spec healthCheck requestPath") {
		t.Error("the load balancer's health check is not the readiness probe")
	}
	if ports := list(service, "spec ports"); len(ports) != 1 || text(ports[0], "targetPort") != "http" {
		t.Error("only the page's port may be reached from outside, not the metrics")
	}
}

// kubectl apply -k applies all files of a folder.
func TestKustomizations(t *testing.T) {
	for _, folder := range append(folders, "hpa") {
		k := string(read(t, filepath.Join(folder, "kustomization.yaml")))
		files, _ := filepath.Glob(filepath.Join(folder, "*.yaml"))
		for _, file := range files {
			if f := filepath.Base(file); f != "kustomization.yaml" && !strings.Contains(k, "\n  - "+f+"\n") {
				t.Errorf("%s is not in its folder's kustomization.yaml", file)
			}
		}
		for _, o := range workloads(load(t, filepath.Join(folder, "*.yaml"))) {
			image, tag, _ := strings.Cut(text(o, "spec template spec containers 0 image"), ":")
			if strings.Contains(image, "PROJECT_ID") && !strings.Contains(k, "  - name: "+image+"\n    newTag: "+tag+"\n") {
				t.Errorf("%s is not among the images of %s/kustomization.yaml", image, folder)
			}
		}
	}
}

// The two files with a chat server differ in what is around the server, not in the server.
func TestLocalChatServerIsTheSame(t *testing.T) {
	var servers []string
	for _, file := range []string{"chatserver.yaml", "local/chatserver.yaml"} {
		pod := at(find(t, load(t, file), "Deployment chatserver"), "spec template spec")
		c := at(pod, "containers 0").(map[string]any)
		delete(c, "image")
		delete(c, "lifecycle")
		c["env"] = slices.DeleteFunc(list(c, "env"), func(v any) bool { return text(v, "name") == "TRUSTED_PROXIES" })
		servers = append(servers, fmt.Sprint(c, at(pod, "securityContext"))) // maps are printed in order
	}
	if servers[0] != servers[1] {
		t.Errorf("chatserver.yaml has\n%s\nlocal/chatserver.yaml has\n%s", servers[0], servers[1])
	}
}

// What the three brokers keep has as many copies as there are brokers. (That they find each other, and
// that Dockerkafka's do, .ci/k8s tries with real ones.)
func TestCopies(t *testing.T) {
	set := find(t, load(t, "kraft/*.yaml"), "StatefulSet kafka")
	for name, want := range map[string]string{
		"DEFAULT_REPLICATION_FACTOR": "3", "MIN_INSYNC_REPLICAS": "2", "OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
		"TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3", "TRANSACTION_STATE_LOG_MIN_ISR": "2",
		"SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "3", "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "2",
	} {
		if got := environment(set)["KAFKA_"+name]; got != want || number(set, "spec replicas") != 3 {
			t.Errorf("KAFKA_%s is %q, want %q", name, got, want)
		}
	}
	// Kubernetes expands $(POD_NAME) only in what stands below it.
	if text(set, "spec template spec containers 0 env 0 name") != "POD_NAME" {
		t.Error("$(POD_NAME) is used before POD_NAME is set")
	}
}

// What Dockerkafka takes for granted of the manifest that runs the image.
func TestDockerkafka(t *testing.T) {
	deployment := find(t, load(t, "kafka.yaml"), "Deployment kafka")
	for _, want := range []string{
		fmt.Sprintf(`"log.dirs=%s/`, text(deployment, "spec template spec containers 0 volumeMounts 0 mountPath")), // not at the volume's top, where lost+found is
		fmt.Sprintf("\nUSER %[1]d:%[1]d\n", number(deployment, "spec template spec securityContext runAsUser")),
	} {
		if !strings.Contains(string(read(t, "../Dockerkafka")), want) {
			t.Errorf("Dockerkafka has no %s", want)
		}
	}
}
