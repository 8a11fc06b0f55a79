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
			for _, labels := range []any{at(o, "metadata labels"), at(o, "spec template metadata labels")} {
				got := fmt.Sprint(at(labels, "app"), at(labels, "app.kubernetes.io/name"), at(labels, "app.kubernetes.io/part-of"))
				if labels != nil && got != fmt.Sprint(app, app, "kafkachat") {
					t.Errorf("%s: %s has the labels %v", file, name(o), labels)
				}
			}
		}
	}
}

// In each folder that is applied as a whole, each file is applied, each selector selects the pods of one workload, and the
// ports that services, policies and collectors of metrics name are ports of those pods.
func TestFolders(t *testing.T) {
	for _, folder := range []string{".", "kraft", "local", "hpa"} {
		files, _ := filepath.Glob(filepath.Join(folder, "*.yaml"))
		for _, file := range files {
			f := filepath.Base(file)
			if f != "kustomization.yaml" && !strings.Contains(string(read(t, filepath.Join(folder, "kustomization.yaml"))), "\n  - "+f+"\n") {
				t.Errorf("%s is not in its folder's kustomization.yaml", file)
			}
		}
		if folder == "hpa" {
			continue // on top of the first
		}
		objects := load(t, filepath.Join(folder, "*.yaml"))
		for _, o := range append(objects, load(t, "monitoring/podmonitoring.yaml")...) {
			selector := at(o, "spec selector")
			if text(o, "kind") == "NetworkPolicy" {
				selector = at(o, "spec podSelector")
			}
			selected := slices.DeleteFunc(workloads(objects), func(w object) bool {
				return selector == nil || !matches(selector, at(w, "spec template metadata labels"))
			})
			if selector == nil || text(o, "kind") == "PodMonitoring" && len(selected) == 0 {
				continue
			}
			if len(selected) != 1 {
				t.Errorf("%s: %s selects the pods of %d workloads, want 1", folder, name(o), len(selected))
				continue
			}
			ports := list(selected[0], "spec template spec containers 0 ports")
			for _, rule := range append(list(o, "spec ingress"), at(o, "spec")) {
				for _, p := range append(list(rule, "ports"), list(rule, "endpoints")...) {
					named := cmp.Or(at(p, "targetPort"), at(p, "port"))
					if !slices.ContainsFunc(ports, func(p any) bool { return at(p, "name") == named || at(p, "containerPort") == named }) {
						t.Errorf("%s: %s names the port %v, which its pods do not have", folder, name(o), named)
					}
				}
			}
		}
	}
}

// Every pod keeps to the standard "restricted". Service links would set KAFKA_PORT and the like,
// which Kafka's images take for settings. A liveness probe would kill a broker that reads its log.
func TestPods(t *testing.T) {
	const set = "set" // to whatever
	for _, o := range slices.Concat(workloads(load(t, "*.yaml")), workloads(load(t, "kraft/*.yaml")), workloads(load(t, "local/*.yaml"))) {
		pod, c := at(o, "spec template spec"), at(o, "spec template spec containers 0")
		image := text(c, "image")
		want := map[string]any{
			"enableServiceLinks": false, "automountServiceAccountToken": false, "hostNetwork": nil, "containers 1": nil,
			"securityContext runAsNonRoot": true, "securityContext seccompProfile type": "RuntimeDefault", "securityContext runAsUser": set,
			"containers 0 securityContext allowPrivilegeEscalation": false, "containers 0 securityContext capabilities drop 0": "ALL",
			"containers 0 securityContext readOnlyRootFilesystem": true, "containers 0 startupProbe": set, "containers 0 readinessProbe": set,
			"containers 0 resources requests cpu": set, "containers 0 resources requests memory": set,
			"containers 0 resources limits memory": set, "containers 0 resources limits cpu": nil, "terminationGracePeriodSeconds": set,
		}
		if strings.Contains(image, "kafka:") {
			want["containers 0 livenessProbe"] = nil
		}
		if strings.HasPrefix(image, "apache/kafka:4") { // writes its configuration
			delete(want, "containers 0 securityContext readOnlyRootFilesystem")
		}
		for path, w := range want {
			if got := at(pod, path); w == set && got == nil || w != set && got != w {
				t.Errorf("%s: %s is %v, want %v", name(o), path, got, w)
			}
		}
		if !regexp.MustCompile(`^[a-zA-Z0-9._/-]+:v?\d[\w.-]*$`).MatchString(image) {
			t.Errorf("%s: the image %q has no version", name(o), image)
		}
		if text(o, "kind") == "Deployment" && at(pod, "volumes") != nil && text(o, "spec strategy type") != "Recreate" {
			t.Errorf("%s: a rollout would start a second pod on the same volume", name(o))
		}
	}
}

// What the load balancer needs from the manifests, and what its controller stumbles over silently.
func TestLoadBalancer(t *testing.T) {
	objects := load(t, "chatserver.yaml")
	ingress, service := find(t, objects, "Ingress chatserver"), find(t, objects, "Service chatserver")
	backend, c := find(t, objects, "BackendConfig chatserver"), at(find(t, objects, "Deployment chatserver"), "spec template spec containers 0")
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
	if at(c, "ports 0 containerPort") != at(backend, "spec healthCheck port") || at(c, "readinessProbe httpGet path") != at(backend, "spec healthCheck requestPath") {
		t.Error("the load balancer's health check is not the readiness probe")
	}
	if ports := list(service, "spec ports"); len(ports) != 1 || text(ports[0], "targetPort") != "http" {
		t.Error("only the page's port may be reached from outside, not the metrics")
	}
}

// The two files with a chat server differ in what is around the server, not in the server.
func TestLocalChatServerIsTheSame(t *testing.T) {
	var servers []string
	for _, file := range []string{"chatserver.yaml", "local/chatserver.yaml"} {
		pod := at(find(t, load(t, file), "Deployment chatserver"), "spec template spec")
		c := at(pod, "containers 0").(object)
		delete(c, "image")
		delete(c, "lifecycle")
		c["env"] = slices.DeleteFunc(list(c, "env"), func(v any) bool { return text(v, "name") == "TRUSTED_PROXIES" })
		servers = append(servers, fmt.Sprint(c, at(pod, "securityContext"))) // maps are printed in order
	}
	if servers[0] != servers[1] {
		t.Errorf("chatserver.yaml has\n%s\nlocal/chatserver.yaml has\n%s", servers[0], servers[1])
	}
}

// What the three brokers keep has as many copies as there are brokers, and what Dockerkafka takes for granted of the manifest
// that runs the image is so. (That the brokers find each other, .ci/k8s tries with real ones.)
func TestKafka(t *testing.T) {
	set := find(t, load(t, "kraft/*.yaml"), "StatefulSet kafka")
	env := list(set, "spec template spec containers 0 env")
	for name, want := range map[string]string{
		"DEFAULT_REPLICATION_FACTOR": "3", "MIN_INSYNC_REPLICAS": "2", "OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
		"TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3", "TRANSACTION_STATE_LOG_MIN_ISR": "2",
		"SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "3", "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "2",
	} {
		has := func(v any) bool { return text(v, "name") == "KAFKA_"+name && text(v, "value") == want }
		if !slices.ContainsFunc(env, has) || number(set, "spec replicas") != 3 {
			t.Errorf("KAFKA_%s is not %q", name, want)
		}
	}
	if text(env[0], "name") != "POD_NAME" {
		t.Error("Kubernetes expands $(POD_NAME) only in what stands below it")
	}
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
