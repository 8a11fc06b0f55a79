package realkafka

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// clusterID is 16 bytes in Kafka's form.
const clusterID = "a2Fma2FjaGF0LXRlc3QtMQ"

// The names of listeners. Nodes speak to each other on a listener of their own: what a test does to
// the plain one (a proxy that cuts it, an advertised name that is wrong) must not split the
// cluster.
const (
	plain      = "CLIENT"
	internal   = "INTERNAL"
	controller = "CONTROLLER"
)

// configure writes a node's properties: those that all test brokers share, then its own. A later
// property overrides an earlier one.
func (c *Cluster) configure(n *node) (file string, err error) {
	base, err := os.ReadFile(filepath.Join(filepath.Dir(c.script), "server.properties"))
	if err != nil {
		return "", err
	}
	text := bytes.NewBuffer(base)
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for name, value := range c.properties(n) {
		fmt.Fprintf(text, "%s=%s\n", name, escape.Replace(value))
	}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return "", err
	}
	file = filepath.Join(n.dir, "server.properties")
	return file, os.WriteFile(file, text.Bytes(), 0o644)
}

func (c *Cluster) properties(n *node) map[string]string {
	var voters, listeners, advertised, protocols []string
	for _, v := range c.nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", v.id, v.addrs[controller]))
	}
	for name, protocol := range c.protocols {
		protocols = append(protocols, name+":"+protocol)
		listeners = append(listeners, name+"://"+n.addrs[name])
		if name != controller { // not advertised: the voters are listed
			advertised = append(advertised, name+"://"+n.addrs[name])
		}
	}
	copies, inSync := strconv.Itoa(min(3, len(c.nodes))), strconv.Itoa(min(2, len(c.nodes)))
	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  strconv.Itoa(n.id),
		"log.dirs":                                 n.data(),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                controller,
		"inter.broker.listener.name":               internal,
		"listeners":                                strings.Join(listeners, ","),
		"advertised.listeners":                     strings.Join(advertised, ","),
		"listener.security.protocol.map":           strings.Join(protocols, ","),
		"default.replication.factor":               copies,
		"min.insync.replicas":                      inSync,
		"offsets.topic.replication.factor":         copies,
		"transaction.state.log.replication.factor": copies,
		"transaction.state.log.min.isr":            inSync,
	}
	maps.Copy(p, c.opt.Properties)
	return p
}

// reservePort returns host:port of a port that is reserved until the test ends, also while its node
// is down. The port is below the range that the kernel gives to outgoing connections. Such a
// connection could otherwise take the port of a node that is down, and a client that dials a free
// port of that range may be connected to itself. The UDP port of the same number, which has no
// other use, tells other test processes that the port is taken.
func reservePort(t testing.TB) string {
	t.Helper()
	const first, last, attempts = 10000, 16000, 1000
	for range attempts {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		mark, err := net.ListenPacket("udp4", addr)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp4", addr); err == nil {
			l.Close()
			t.Cleanup(func() { mark.Close() })
			return addr
		}
		mark.Close()
	}
	t.Fatalf("no free port between %d and %d after %d attempts", first, last, attempts)
	return ""
}
