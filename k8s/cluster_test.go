package k8s_test

import (
	"fmt"
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

func (r room) holds(o room) bool { return r.cpu >= o.cpu && r.memory >= o.memory }
func (r room) minus(o room) room { return room{r.cpu - o.cpu, r.memory - o.memory} }

// The lab's cluster is three e2-medium: 940m and about 2.7 GB that pods may ask for, of which Google's
// own pods ask for up to free below (DNS, logging, metrics, Dataplane V2; an estimate, with a margin).
func labNodes() []room {
	const ownCPU, ownMemory = 500, 800e6
	free := room{940 - ownCPU, 2.7e9 - ownMemory}
	return []room{free, free, free}
}

// The lab's nodes hold the lab, four chat pods and a surge pod, whichever pods are there already and
// on whichever nodes they are: each pod that is missing fits onto some node.
func TestTheLabFits(t *testing.T) {
	pods := []room{request(t, "zookeeper.yaml"), request(t, "kafka.yaml")}
	for range 4 + surge(t) {
		pods = append(pods, request(t, "chatserver.yaml"))
	}
	placements := 0
	var place func(pods []room, nodes []room, missing []room)
	place = func(pods, nodes, missing []room) {
		if len(pods) == 0 {
			placements++
			for _, p := range missing {
				if !slices.ContainsFunc(nodes, func(n room) bool { return n.holds(p) }) {
					t.Errorf("a pod that asks for %+v fits onto none of %+v", p, nodes)
				}
			}
			return
		}
		place(pods[1:], nodes, append(slices.Clone(missing), pods[0]))
		for i, n := range nodes {
			if n.holds(pods[0]) {
				after := slices.Clone(nodes)
				after[i] = n.minus(pods[0])
				place(pods[1:], after, missing)
			}
		}
	}
	place(pods, labNodes(), nil)
	if placements < 1000 {
		t.Errorf("only %d placements were tried", placements)
	}
}

// The brokers of kraft/, one on each of the lab's nodes, leave room for four chat pods and a surge pod.
func TestKraftFitsOntoTheLabsNodes(t *testing.T) {
	broker, chat, more := request(t, "kraft/kafka.yaml"), request(t, "chatserver.yaml"), 0
	for _, n := range labNodes() {
		if !n.holds(broker) {
			t.Fatalf("a broker asks for %+v of a node's %+v", broker, n)
		}
		for n = n.minus(broker); n.holds(chat); n = n.minus(chat) {
			more++
		}
	}
	if want := 4 + surge(t); more < want {
		t.Errorf("there is room for %d chat pods, want %d", more, want)
	}
}

func request(t *testing.T, file string) room {
	t.Helper()
	w := workloads(load(t, file))[0]
	resources := "spec template spec containers 0 resources requests "
	return room{quantity(t, text(w, resources+"cpu")), quantity(t, text(w, resources+"memory"))}
}

func surge(t *testing.T) int {
	t.Helper()
	rolling := at(find(t, load(t, "chatserver.yaml"), "Deployment chatserver"), "spec strategy rollingUpdate")
	if fmt.Sprint(at(rolling, "maxUnavailable")) != "0" {
		t.Error("a rollout takes a pod away before its successor is there")
	}
	return number(rolling, "maxSurge")
}
