package k8s_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Who may reach what, by the rules of NetworkPolicy: a pod that a policy selects can be reached only
// by what some policy of it names.
func TestPolicies(t *testing.T) {
	type sender struct{ app, namespace, address string } // "" is the chat's own namespace, and no address outside the cluster
	senders := map[string]sender{
		"chat": {app: "chatserver"}, "kafka": {app: "kafka"}, "zookeeper": {app: "zookeeper"}, "tool": {app: "kafka-client"}, "any": {app: "any"},
		"other": {app: "chatserver", namespace: "other"}, "prometheus": {app: "any", namespace: "monitoring"}, "google": {app: "any", namespace: "gmp-system"},
		"vm": {address: "10.128.0.9"}, "balancer": {address: "130.211.0.9"}, "balancer2": {address: "35.191.200.9"},
		"internet": {address: "203.0.113.7"}, "laptop": {address: "192.0.2.1"},
	}
	for _, c := range []struct {
		folder, to string
		port       int
		in, out    string
	}{
		{".", "kafka", 9092, "chat tool vm", "zookeeper internet other"},
		{".", "zookeeper", 2181, "kafka", "chat vm"},
		{".", "chatserver", 8000, "balancer balancer2 other", "internet"},
		{".", "chatserver", 9090, "prometheus google", "chat balancer"},
		{"kraft", "kafka", 9092, "kafka chat", "any"},
		{"kraft", "kafka", 9093, "kafka", "chat tool vm"},
		{"local", "kafka", 9092, "chat", "any"},
		{"local", "chatserver", 8000, "laptop", ""},
		{"local", "chatserver", 9090, "", "any"},
	} {
		policy := find(t, load(t, filepath.Join(c.folder, "*.yaml")), "NetworkPolicy "+c.to)
		for name, from := range senders {
			labels := map[string]any{"app": from.app, "mode": c.folder}
			if name == "tool" {
				labels = map[string]any{"kafka-client": "true"}
			}
			peer := func(p any) bool {
				if cidr := text(p, "ipBlock cidr"); cidr != "" {
					address, err := netip.ParseAddr(from.address)
					return err == nil && netip.MustParsePrefix(cidr).Contains(address)
				}
				if namespaces := at(p, "namespaceSelector"); namespaces != nil {
					allowed := list(namespaces, "matchExpressions 0 values") // {} is all of them
					return from.address == "" && (allowed == nil || slices.Contains(allowed, any(from.namespace)))
				}
				return from.address == "" && from.namespace == "" && matches(at(p, "podSelector"), labels)
			}
			allowed := slices.ContainsFunc(list(policy, "spec ingress"), func(rule any) bool {
				ports, peers := list(rule, "ports"), list(rule, "from")
				return (ports == nil || slices.ContainsFunc(ports, func(p any) bool { return number(p, "port") == c.port })) &&
					(peers == nil || slices.ContainsFunc(peers, peer))
			})
			in, out := slices.Contains(strings.Fields(c.in), name), slices.Contains(strings.Fields(c.out), name)
			if in && !allowed || out && allowed {
				t.Errorf("%s: %s to %s:%d: allowed is %t", c.folder, name, c.to, c.port, allowed)
			}
		}
	}
}

// room is CPU in 1000ths and memory in bytes.
type room struct{ cpu, memory int }

// The lab's cluster is three e2-medium: 940m and about 2.7 GB that pods may ask for, of which Google's
// own pods ask for up to 500m and 0.8 GB (DNS, logging, metrics, Dataplane V2; an estimate, with a margin).
const labNodes, nodeCPU, nodeMemory = 3, 940 - 500, 2.7e9 - 0.8e9

// The lab's nodes hold the lab, four chat pods and a surge pod, whichever pods are there already and on
// whichever nodes they are: what all others ask for cannot fill each node so far that a pod fits onto none.
// The brokers of kraft/, one on each node, leave room for as many chat pods.
func TestTheLabFits(t *testing.T) {
	request := func(file string) room {
		requests := at(workloads(load(t, file))[0], "spec template spec containers 0 resources requests")
		return room{quantity(t, text(requests, "cpu")), quantity(t, text(requests, "memory"))}
	}
	chat := request("chatserver.yaml")
	rolling := at(find(t, load(t, "chatserver.yaml"), "Deployment chatserver"), "spec strategy rollingUpdate")
	if at(rolling, "maxUnavailable") != 0 {
		t.Error("a rollout takes a pod away before its successor is there")
	}
	chats := 4 + number(rolling, "maxSurge")
	pods := append([]room{request("zookeeper.yaml"), request("kafka.yaml")}, slices.Repeat([]room{chat}, chats)...)
	var all room
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
	broker := request("kraft/kafka.yaml")
	if beside := min((nodeCPU-broker.cpu)/chat.cpu, (nodeMemory-broker.memory)/chat.memory); labNodes*beside < chats {
		t.Errorf("beside the brokers there is room for %d chat pods, want %d", labNodes*beside, chats)
	}
}
