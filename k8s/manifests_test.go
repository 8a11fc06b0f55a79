// Package k8s_test checks what schemas cannot: numbers and names in different manifests that must
// fit together. `.ci/k8s` checks the schemas.
package k8s_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The lab's commands name these.
func TestNames(t *testing.T) {
	for file, port := range map[string]int{
		"zookeeper.yaml": 2181, "kafka.yaml": 9092, "kraft/kafka.yaml": 9092, "local/kafka.yaml": 9092,
		"chatserver.yaml": 80, "local/chatserver.yaml": 80,
	} {
		app := strings.TrimSuffix(filepath.Base(file), ".yaml")
		check(t, find(t, file, "Service "+app), object{"spec ports 0 port": port})
	}
}

// In each folder that is applied as a whole, each file is applied, each selector selects the pods of one workload, and the
// ports that services, policies and collectors of metrics name are ports of those pods.
func TestFolders(t *testing.T) {
	for _, folder := range []string{".", "kraft", "local", "hpa"} {
		files, _ := filepath.Glob(folder + "/*.yaml")
		objects := load(t, folder+"/*.yaml")
		applied := append(list(find(t, folder+"/*.yaml", "Kustomization "), "resources"), "kustomization.yaml")
		for _, file := range files {
			if !slices.Contains(applied, any(filepath.Base(file))) {
				t.Errorf("%s is not in its folder's kustomization.yaml", file)
			}
		}
		if folder == "." {
			objects = append(objects, load(t, "monitoring/podmonitoring.yaml")...)
		}
		for _, o := range objects {
			selector := cmp.Or(at(o, "spec selector"), at(o, "spec podSelector"))
			if selector == nil {
				continue
			}
			selected := slices.DeleteFunc(workloads(objects), func(w object) bool {
				return !matches(selector, at(w, "spec template metadata labels"))
			})
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
	c := at(find(t, "chatserver.yaml", "Deployment chatserver"), "spec template spec containers 0")
	// GKE wants the ingress class as an annotation, and does nothing if spec.ingressClassName is there.
	check(t, find(t, "chatserver.yaml", "Ingress chatserver"), object{
		"spec ingressClassName": nil, "metadata annotations kubernetes.io/ingress.class": "gce",
	})
	check(t, find(t, "chatserver.yaml", "Service chatserver"), object{
		"metadata annotations cloud.google.com/backend-config": `{"default": "chatserver"}`,
		"metadata annotations cloud.google.com/neg":            `{"ingress": true}`,
		"spec ports 0 targetPort":                              "http", "spec ports 1": nil, // the metrics stay inside
	})
	check(t, find(t, "chatserver.yaml", "BackendConfig chatserver"), object{
		"spec timeoutSec":       86400, // it cuts websockets
		"spec healthCheck port": at(c, "ports 0 containerPort"), "spec healthCheck requestPath": at(c, "readinessProbe httpGet path"),
	})
}

// The lab scales the chat server by hand, and a rollout takes no pod away before its successor is there. The two files
// differ in what is around the server, not in the server.
func TestChatServers(t *testing.T) {
	var servers []string
	for _, file := range []string{"chatserver.yaml", "local/chatserver.yaml"} {
		find(t, file, "Ingress chatserver")
		deployment := find(t, file, "Deployment chatserver")
		check(t, at(deployment, "spec"), object{"replicas": 1, "strategy rollingUpdate maxUnavailable": 0, "strategy rollingUpdate maxSurge": 1})
		c := at(deployment, "spec template spec containers 0").(object)
		delete(c, "image")
		delete(c, "lifecycle")
		c["env"] = slices.DeleteFunc(list(c, "env"), func(v any) bool { return text(v, "name") == "TRUSTED_PROXIES" })
		servers = append(servers, fmt.Sprint(c)) // maps are printed in order
	}
	if servers[0] != servers[1] {
		t.Errorf("chatserver.yaml has\n%s\nlocal/chatserver.yaml has\n%s", servers[0], servers[1])
	}
}

// Each record has three copies, and the manifest is as Dockerkafka takes for granted. (.ci/k8s starts the brokers.)
func TestKafka(t *testing.T) {
	kraft := find(t, "kraft/*.yaml", "StatefulSet kafka")
	// $(POD_NAME) is expanded only below POD_NAME.
	check(t, kraft, object{"spec replicas": 3, "spec template spec containers 0 env 0 name": "POD_NAME"})
	env := make(object)
	for _, v := range list(kraft, "spec template spec containers 0 env") {
		env[text(v, "name")] = at(v, "value")
	}
	check(t, env, object{"KAFKA_DEFAULT_REPLICATION_FACTOR": "3", "KAFKA_MIN_INSYNC_REPLICAS": "2"})
	pod := at(find(t, "kafka.yaml", "Deployment kafka"), "spec template spec")
	image, err := os.ReadFile("../Dockerkafka")
	for _, want := range []string{
		fmt.Sprintf(`"log.dirs=%s/`, text(pod, "containers 0 volumeMounts 0 mountPath")), // not at the volume's top, where lost+found is
		fmt.Sprintf("\nUSER %[1]v:%[1]v\n", at(pod, "securityContext runAsUser")),
	} {
		if !strings.Contains(string(image), want) {
			t.Errorf("Dockerkafka has no %s: %v", want, err)
		}
	}
}

// Who may reach what. A sender is an app beside the pod, namespace/app, or an address outside the cluster.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		folder, to string
		port       int
		in, out    string
	}{
		{".", "kafka", 9092, "chatserver kafka-client 10.128.0.9", "zookeeper 203.0.113.7 other/chatserver"},
		{".", "zookeeper", 2181, "kafka", "chatserver 10.128.0.9"},
		{".", "chatserver", 8000, "130.211.0.9 35.191.200.9 other/any", "203.0.113.7"},
		{".", "chatserver", 9090, "monitoring/any gmp-system/any", "chatserver 130.211.0.9"},
		{"kraft", "kafka", 9092, "kafka chatserver", "any"},
		{"kraft", "kafka", 9093, "kafka", "chatserver kafka-client 10.128.0.9"},
		{"local", "kafka", 9092, "chatserver", "any"},
		{"local", "chatserver", 8000, "192.0.2.1", ""},
		{"local", "chatserver", 9090, "", "any"},
	} {
		policy := find(t, c.folder+"/*.yaml", "NetworkPolicy "+c.to)
		for want, senders := range map[bool]string{true: c.in, false: c.out} {
			for _, sender := range strings.Fields(senders) {
				namespace, _, elsewhere := strings.Cut(sender, "/")
				peer := func(p any) bool {
					if address, err := netip.ParseAddr(sender); err == nil {
						block, _ := netip.ParsePrefix(text(p, "ipBlock cidr"))
						return block.Contains(address)
					}
					if namespaces := at(p, "namespaceSelector"); namespaces != nil {
						allowed := list(namespaces, "matchExpressions 0 values") // {} is all of them
						return allowed == nil || slices.Contains(allowed, any(namespace))
					}
					labels := object{"app": sender, "mode": c.folder, sender: "true"}
					return !elsewhere && at(p, "podSelector") != nil && matches(at(p, "podSelector"), labels)
				}
				allowed := slices.ContainsFunc(list(policy, "spec ingress"), func(rule any) bool {
					ports, peers := list(rule, "ports"), list(rule, "from")
					return (ports == nil || slices.ContainsFunc(ports, func(p any) bool { return at(p, "port") == c.port })) &&
						(peers == nil || slices.ContainsFunc(peers, peer))
				})
				if allowed != want {
					t.Errorf("%s: %s to %s:%d: allowed is %t", c.folder, sender, c.to, c.port, allowed)
				}
			}
		}
	}
}

type need struct{ cpu, memory int } // in 1000ths of a CPU, and in MiB

// The lab's cluster is three e2-medium: 940m and about 2.7 GB that pods may ask for, of which Google's
// own pods ask for up to 500m and 0.8 GB (DNS, logging, metrics, Dataplane V2; an estimate, with a margin).
const labNodes, nodeCPU, nodeMemory = 3, 940 - 500, (2_700_000_000 - 800_000_000) >> 20

// The lab's nodes hold the lab, four chat pods and a surge pod, on whichever nodes: what all others ask for cannot fill each
// node so far that a pod fits onto none. The brokers of kraft/, one on each node, leave room for as many chat pods.
func TestTheLabFits(t *testing.T) {
	request := func(file string) (n need) {
		requests := at(workloads(load(t, file))[0], "spec template spec containers 0 resources requests")
		if _, err := fmt.Sscanf(fmt.Sprint(requests), "map[cpu:%dm memory:%dMi]", &n.cpu, &n.memory); err != nil {
			t.Fatalf("%s asks for %v: %v", file, requests, err)
		}
		return n
	}
	const chats = 4 + 1 // a rollout's
	chat, broker := request("chatserver.yaml"), request("kraft/kafka.yaml")
	pods := append(slices.Repeat([]need{chat}, chats), request("zookeeper.yaml"), request("kafka.yaml"))
	var all need
	for _, p := range pods {
		all.cpu += p.cpu
		all.memory += p.memory
	}
	for _, p := range pods {
		full := (all.cpu-p.cpu)/(nodeCPU-p.cpu+1) + (all.memory-p.memory)/(nodeMemory-p.memory+1)
		if full >= labNodes {
			t.Errorf("a pod that asks for %+v may find %d of %d nodes too full", p, full, labNodes)
		}
	}
	if beside := min((nodeCPU-broker.cpu)/chat.cpu, (nodeMemory-broker.memory)/chat.memory); labNodes*beside < chats {
		t.Errorf("beside the brokers there is room for %d chat pods, want %d", labNodes*beside, chats)
	}
}

// An object is one YAML document of a manifest.
type object = map[string]any

// load returns the objects of the files that match the pattern; some must.
func load(t *testing.T, pattern string) (objects []object) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests match %s: %v", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var o object
			if err := errors.Join(err, yaml.Unmarshal(document, &o)); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, o)
		}
	}
	return objects
}

// at returns what stands at a path such as "spec ports 0 name" below v, or nil.
func at(v any, path string) any {
	for key := range strings.FieldsSeq(path) {
		if items, ok := v.([]any); ok {
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(items) {
				return nil
			}
			v = items[i]
			continue
		}
		below, _ := v.(object)
		v = below[key]
	}
	return v
}

const set = "set" // to whatever

// check compares what stands at these paths below v.
func check(t *testing.T, v any, want object) {
	t.Helper()
	for path, w := range want {
		if got := at(v, path); w == set && got == nil || w != set && got != w {
			t.Errorf("%s is %v, want %v, in\n%v", path, got, w, v)
		}
	}
}

func text(v any, path string) string { s, _ := at(v, path).(string); return s }
func list(v any, path string) []any  { l, _ := at(v, path).([]any); return l }
func name(o object) string           { return text(o, "kind") + " " + text(o, "metadata name") }

// find returns the object of a kind and name, as in "Service kafka", of the files that match the pattern.
func find(t *testing.T, pattern, want string) object {
	t.Helper()
	objects := load(t, pattern)
	i := slices.IndexFunc(objects, func(o object) bool { return name(o) == want })
	if i < 0 {
		t.Fatalf("%s has no %s", pattern, want)
	}
	return objects[i]
}

// workloads are the objects that make pods.
func workloads(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object) bool { return at(o, "spec template") == nil })
}

// matches tells whether a selector, with or without matchLabels, selects pods with these labels.
func matches(selector, labels any) bool {
	wanted, _ := cmp.Or(at(selector, "matchLabels"), selector).(object)
	for key, value := range wanted {
		if text(labels, key) != value {
			return false
		}
	}
	return true
}
