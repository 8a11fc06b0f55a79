package k8s_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
)

// Who may reach what, by the rules of NetworkPolicy: a pod that a policy selects can be reached only
// by what some policy of it names.
func TestPolicies(t *testing.T) {
	type sender struct {
		app, namespace, address string // "" is the chat's own namespace, and no address outside the cluster
	}
	tool, vm := sender{app: "kafka-client"}, sender{address: "10.128.0.9"}
	cases := []struct {
		folder string
		from   sender
		to     string
		port   int
		want   bool
	}{
		{".", sender{app: "chatserver"}, "kafka", 9092, true}, {".", tool, "kafka", 9092, true}, {".", vm, "kafka", 9092, true},
		{".", sender{app: "zookeeper"}, "kafka", 9092, false}, {".", sender{address: "203.0.113.7"}, "kafka", 9092, false},
		{".", sender{app: "chatserver", namespace: "other"}, "kafka", 9092, false},
		{".", sender{app: "kafka"}, "zookeeper", 2181, true}, {".", sender{app: "chatserver"}, "zookeeper", 2181, false}, {".", vm, "zookeeper", 2181, false},
		{".", sender{address: "130.211.0.9"}, "chatserver", 8000, true}, {".", sender{address: "35.191.200.9"}, "chatserver", 8000, true},
		{".", sender{app: "any", namespace: "other"}, "chatserver", 8000, true}, {".", sender{address: "203.0.113.7"}, "chatserver", 8000, false},
		{".", sender{app: "any", namespace: "monitoring"}, "chatserver", 9090, true}, {".", sender{app: "any", namespace: "gmp-system"}, "chatserver", 9090, true},
		{".", sender{app: "chatserver"}, "chatserver", 9090, false}, {".", sender{address: "130.211.0.9"}, "chatserver", 9090, false},
		{"kraft", sender{app: "kafka"}, "kafka", 9093, true}, {"kraft", sender{app: "kafka"}, "kafka", 9092, true}, {"kraft", sender{app: "chatserver"}, "kafka", 9092, true},
		{"kraft", sender{app: "chatserver"}, "kafka", 9093, false}, {"kraft", tool, "kafka", 9093, false}, {"kraft", vm, "kafka", 9093, false},
		{"local", sender{app: "chatserver"}, "kafka", 9092, true}, {"local", sender{app: "any"}, "kafka", 9092, false},
		{"local", sender{address: "192.0.2.1"}, "chatserver", 8000, true}, {"local", sender{app: "any"}, "chatserver", 9090, false},
	}
	for _, c := range cases {
		labels := map[string]any{"app": c.from.app, "mode": c.folder}
		if c.from == tool {
			labels = map[string]any{"kafka-client": "true"}
		}
		peer := func(p any) bool {
			if cidr := text(p, "ipBlock cidr"); cidr != "" {
				address, err := netip.ParseAddr(c.from.address)
				return err == nil && netip.MustParsePrefix(cidr).Contains(address)
			}
			if namespaces := at(p, "namespaceSelector"); namespaces != nil {
				allowed := list(namespaces, "matchExpressions 0 values") // {} is all of them
				return c.from.address == "" && (allowed == nil || slices.Contains(allowed, any(c.from.namespace)))
			}
			return c.from.address == "" && c.from.namespace == "" && matches(at(p, "podSelector"), labels)
		}
		rule := func(r any) bool {
			ports, from := list(r, "ports"), list(r, "from")
			return (ports == nil || slices.ContainsFunc(ports, func(p any) bool { return number(p, "port") == c.port })) &&
				(from == nil || slices.ContainsFunc(from, peer))
		}
		policy := find(t, load(t, filepath.Join(c.folder, "*.yaml")), "NetworkPolicy "+c.to)
		if got := slices.ContainsFunc(list(policy, "spec ingress"), rule); got != c.want {
			t.Errorf("%s: %+v to %s:%d: allowed is %t, want %t", c.folder, c.from, c.to, c.port, got, c.want)
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
	chat := request(t, "chatserver.yaml")
	rolling := at(find(t, load(t, "chatserver.yaml"), "Deployment chatserver"), "spec strategy rollingUpdate")
	if at(rolling, "maxUnavailable") != 0 {
		t.Error("a rollout takes a pod away before its successor is there")
	}
	chats := 4 + number(rolling, "maxSurge")
	pods := append([]room{request(t, "zookeeper.yaml"), request(t, "kafka.yaml")}, slices.Repeat([]room{chat}, chats)...)
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
	broker := request(t, "kraft/kafka.yaml")
	if beside := min((nodeCPU-broker.cpu)/chat.cpu, (nodeMemory-broker.memory)/chat.memory); labNodes*beside < chats {
		t.Errorf("beside the brokers there is room for %d chat pods, want %d", labNodes*beside, chats)
	}
}

func request(t *testing.T, file string) room {
	t.Helper()
	requests := at(workloads(load(t, file))[0], "spec template spec containers 0 resources requests")
	return room{quantity(t, text(requests, "cpu")), quantity(t, text(requests, "memory"))}
}
