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

// The lab's commands name these.
func TestNames(t *testing.T) {
	for file, port := range map[string]int{
		"zookeeper.yaml": 2181, "kafka.yaml": 9092, "kraft/kafka.yaml": 9092, "local/kafka.yaml": 9092,
		"chatserver.yaml": 80, "local/chatserver.yaml": 80,
	} {
		objects, app := load(t, file), strings.TrimSuffix(filepath.Base(file), ".yaml")
		check(t, find(t, objects, "Service "+app), object{"spec ports 0 port": port})
		if app == "chatserver" {
			find(t, objects, "Ingress chatserver")
			check(t, find(t, objects, "Deployment chatserver"), object{"spec replicas": 1}) // the lab scales it by hand
		}
		for _, o := range objects {
			for _, labels := range []any{at(o, "metadata labels"), at(o, "spec template metadata labels")} {
				if labels != nil {
					check(t, labels, object{"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "kafkachat"})
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
	for _, o := range slices.Concat(workloads(load(t, "*.yaml")), workloads(load(t, "kraft/*.yaml")), workloads(load(t, "local/*.yaml"))) {
		pod := at(o, "spec template spec")
		image := text(pod, "containers 0 image")
		want := object{
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
		check(t, pod, want)
		if !regexp.MustCompile(`^[a-zA-Z0-9._/-]+:v?\d[\w.-]*$`).MatchString(image) {
			t.Errorf("%s: the image %q has no version", name(o), image)
		}
		if text(o, "kind") == "Deployment" && at(pod, "volumes") != nil {
			check(t, o, object{"spec strategy type": "Recreate"}) // a rollout would start a second pod on the same volume
		}
	}
}

// What the load balancer needs from the manifests, and what its controller stumbles over silently.
func TestLoadBalancer(t *testing.T) {
	objects := load(t, "chatserver.yaml")
	c := at(find(t, objects, "Deployment chatserver"), "spec template spec containers 0")
	// GKE wants the ingress class as an annotation, and does nothing if spec.ingressClassName is there.
	check(t, find(t, objects, "Ingress chatserver"), object{"spec ingressClassName": nil, "metadata annotations kubernetes.io/ingress.class": "gce"})
	check(t, find(t, objects, "Service chatserver"), object{
		"metadata annotations cloud.google.com/backend-config": `{"default": "chatserver"}`, "metadata annotations cloud.google.com/neg": `{"ingress": true}`,
		"spec ports 0 targetPort": "http", "spec ports 1": nil, // the metrics stay inside
	})
	check(t, find(t, objects, "BackendConfig chatserver"), object{
		"spec timeoutSec":       86400, // it cuts websockets
		"spec healthCheck port": at(c, "ports 0 containerPort"), "spec healthCheck requestPath": at(c, "readinessProbe httpGet path"),
	})
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
	kraft := find(t, load(t, "kraft/*.yaml"), "StatefulSet kafka")
	check(t, kraft, object{"spec replicas": 3, "spec template spec containers 0 env 0 name": "POD_NAME"}) // $(POD_NAME) is expanded only below it
	env := make(object)
	for _, v := range list(kraft, "spec template spec containers 0 env") {
		env[strings.TrimPrefix(text(v, "name"), "KAFKA_")] = at(v, "value")
	}
	check(t, env, object{
		"DEFAULT_REPLICATION_FACTOR": "3", "MIN_INSYNC_REPLICAS": "2", "OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
		"TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3", "TRANSACTION_STATE_LOG_MIN_ISR": "2",
		"SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "3", "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "2",
	})
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
