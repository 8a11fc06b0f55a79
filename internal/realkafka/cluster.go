// Package realkafka is test support: Apache Kafka as real processes, one or three of them, that a
// test can kill, pause, restart and wipe. The embedded broker shows what the programs do; only
// real processes show what Kafka does when it fails.
//
// The processes run the jars that .ci/kafka fetches from Maven Central, on Java 17, in KRaft mode:
// each node is broker and controller. The processes die with the test process, however that ends. A
// Cluster is for one goroutine at a time.
package realkafka

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/child"
)

const Version = "4.3.1"

// Options: the zero value is one broker with one plain listener.
type Options struct {
	Brokers int // default 1

	// Properties are added to those of every node and override them.
	Properties map[string]string
	// Listeners are further listeners beside the plain one: name to security protocol, as in
	// {"TLS": "SSL"}. Their key stores and SASL mechanisms go into Properties, as
	// listener.name.tls.ssl.keystore.location and so on.
	Listeners map[string]string
	// Format holds further arguments for formatting the storage, as in --add-scram
	// SCRAM-SHA-256=[name=ann,password=x].
	Format []string
}

// Cluster is a Kafka cluster whose nodes are numbered from 0; a node's number is its broker id.
type Cluster struct {
	t         testing.TB
	script    string // .ci/kafka
	opt       Options
	protocols map[string]string // by listener
	nodes     []*node
}

// node is one Kafka process, with the folder and ports that outlive it.
type node struct {
	id      int
	dir     string
	addrs   map[string]string // by listener
	process *child.Process    // nil while the node is down
}

func (n *node) data() string { return filepath.Join(n.dir, "data") }
func (n *node) log() string  { return filepath.Join(n.dir, "kafka.log") }

// Start returns a cluster that serves clients and ends with the test. If Kafka cannot run (no
// Java), the test is skipped, but with CI=true the test fails.
func Start(t testing.TB, opt Options) *Cluster {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	c := &Cluster{t: t, opt: opt, script: filepath.Join(filepath.Dir(file), "..", "..", ".ci", "kafka")}
	var out []byte
	_, err := exec.LookPath("java")
	if err == nil {
		out, err = exec.CommandContext(t.Context(), c.script, "jars", Version).CombinedOutput()
	}
	if err != nil {
		give := t.Skipf
		if os.Getenv("CI") == "true" {
			give = t.Fatalf
		}
		give("real Kafka needs Java 17, and Maven to fetch it: %v\n%s", err, out)
	}

	c.protocols = map[string]string{plain: "PLAINTEXT", internal: "PLAINTEXT", controller: "PLAINTEXT"}
	maps.Copy(c.protocols, opt.Listeners)
	dir := t.TempDir()
	for i := range cmp.Or(opt.Brokers, 1) {
		n := &node{id: i, dir: filepath.Join(dir, strconv.Itoa(i)), addrs: make(map[string]string)}
		for name := range c.protocols {
			n.addrs[name] = reservePort(t)
		}
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Kill(i)
		}
	})
	var launching sync.WaitGroup
	errs := make([]error, len(c.nodes))
	for i, n := range c.nodes {
		launching.Go(func() { errs[i] = c.launch(n) })
	}
	launching.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	c.awaitAll()
	return c
}

// Addrs is the address of the cluster for clients: host:port of every node, separated by commas.
func (c *Cluster) Addrs() string { return c.ListenerAddrs(plain) }

// Addr is the host:port on which a node's plain listener listens.
func (c *Cluster) Addr(node int) string { return c.nodes[node].addrs[plain] }

// ListenerAddrs is Addrs for one of Options.Listeners.
func (c *Cluster) ListenerAddrs(name string) string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addrs[name])
	}
	return strings.Join(addrs, ",")
}

// Kill ends a node with SIGKILL, and returns when it is gone. The node's data stays.
func (c *Cluster) Kill(node int) {
	if n := c.nodes[node]; n.process != nil {
		n.process.Kill()
		n.process = nil
	}
}

// Wipe kills a node and deletes its data. After Start it is an empty member of the cluster.
func (c *Cluster) Wipe(node int) {
	c.t.Helper()
	c.Kill(node)
	if err := os.RemoveAll(c.nodes[node].data()); err != nil {
		c.t.Fatalf("wipe node %d: %v", node, err)
	}
}

// Pause freezes a node (SIGSTOP): its sockets stay open and nothing answers.
func (c *Cluster) Pause(node int) {
	c.t.Helper()
	if err := c.nodes[node].process.Pause(); err != nil {
		c.t.Fatalf("pause node %d: %v", node, err)
	}
}

// Resume continues a paused node.
func (c *Cluster) Resume(node int) {
	c.t.Helper()
	if err := c.nodes[node].process.Resume(); err != nil {
		c.t.Fatalf("resume node %d: %v", node, err)
	}
}

// Start starts a killed node, on the same ports, with its data. It returns when all running nodes
// serve clients and know of each other.
func (c *Cluster) Start(node int) {
	c.t.Helper()
	if err := c.launch(c.nodes[node]); err != nil {
		c.t.Fatal(err)
	}
	c.awaitAll()
}

// launch formats the node's storage if it has none, and starts the process.
func (c *Cluster) launch(n *node) error {
	config, err := c.configure(n)
	if err != nil {
		return fmt.Errorf("configure node %d: %w", n.id, err)
	}
	if _, err := os.Stat(filepath.Join(n.data(), "meta.properties")); err != nil {
		args := append([]string{"java", Version, "kafka.tools.StorageTool", "format", "--cluster-id", clusterID, "--config", config}, c.opt.Format...)
		if out, err := exec.Command(c.script, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("format the storage of node %d: %w\n%s", n.id, err, out)
		}
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(c.script, "java", Version, "kafka.Kafka", config)
	cmd.Stdout, cmd.Stderr = log, log
	n.process, err = child.Start(cmd)
	return err
}

// awaitAll waits until every node that was not killed serves clients and knows of all the others.
func (c *Cluster) awaitAll() {
	c.t.Helper()
	var running []*node
	for _, n := range c.nodes {
		if n.process != nil {
			running = append(running, n)
		}
	}
	deadline := time.After(2 * time.Minute) // three nodes take 7 s on two idle cores
	for _, n := range running {
		for {
			known, err := n.brokers()
			if known >= len(running) {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-n.process.Ended():
				err = errors.New("it ended by itself")
			case <-deadline:
			}
			log, _ := os.ReadFile(n.log())
			c.t.Fatalf("node %d knows of %d brokers: %v; the end of its log:\n%s", n.id, known, err, log[max(0, len(log)-3000):])
		}
	}
}

// brokers asks the node how many brokers the cluster has: a node with an open port may not serve
// clients yet.
func (n *node) brokers() (int, error) {
	config := sarama.NewConfig()
	config.Net.DialTimeout, config.Net.ReadTimeout = 2*time.Second, 2*time.Second // a frozen node accepts the connection and is silent
	broker := sarama.NewBroker(n.addrs[plain])
	if err := broker.Open(config); err != nil {
		return 0, err
	}
	defer broker.Close()
	metadata, err := broker.GetMetadata(&sarama.MetadataRequest{Version: 1, Topics: []string{}})
	if err != nil {
		return 0, err
	}
	return len(metadata.Brokers), nil
}
