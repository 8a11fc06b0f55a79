// Package realkafka is test support: Apache Kafka as real processes, one or three of them, that a
// test can kill, pause, restart and wipe. The embedded broker shows what the programs do; only
// these show what Kafka does when it fails.
//
// It runs the jars that .ci/kafka fetches from Maven Central, on Java 17, in KRaft mode: each node
// is broker and controller. The processes die with the test process, however that ends. A Cluster
// is for one goroutine at a time.
package realkafka

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/child"
)

// Options: the zero value is one broker of the default version with one plain listener.
type Options struct {
	Version string // default 4.3.1
	Brokers int    // default 1

	// Properties are added to those of every node and win over them.
	Properties map[string]string
	// Listeners are further listeners beside the plain one: name to security protocol, as in
	// {"TLS": "SSL"}. What they need (key stores, SASL mechanisms) goes into Properties, as
	// listener.name.tls.ssl.keystore.location and so on.
	Listeners map[string]string
	// Format holds further arguments for formatting the storage, as in --add-scram
	// SCRAM-SHA-256=[name=ann,password=x].
	Format []string
}

const (
	defaultVersion = "4.3.1"
	plain          = "CLIENT"
	startTimeout   = 120 * time.Second // a cluster of three takes 7 s on two idle cores
)

// Cluster is a Kafka cluster whose nodes are numbered from 0; a node's number is its broker id.
type Cluster struct {
	t      testing.TB
	script string // .ci/kafka
	opt    Options
	id     string
	nodes  []*node
}

// Start returns a cluster that serves clients and ends with the test. Where it cannot be run (no
// Java) the test is skipped, but with CI=true it fails.
func Start(t testing.TB, opt Options) *Cluster {
	t.Helper()
	opt.Version, opt.Brokers = cmp.Or(opt.Version, defaultVersion), cmp.Or(opt.Brokers, 1)
	c := &Cluster{t: t, opt: opt, id: clusterID()}
	var err error
	if c.script, err = prepare(t.Context(), opt.Version); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	t.Cleanup(c.Close)
	for i := range opt.Brokers {
		n, err := newNode(i, filepath.Join(dir, strconv.Itoa(i)), opt)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
	}
	errs := make(chan error)
	for _, n := range c.nodes {
		go func() {
			err := c.configure(n)
			if err == nil {
				err = c.start(n)
			}
			errs <- err
		}()
	}
	for range c.nodes {
		err = cmp.Or(err, <-errs)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// Addrs is where clients find the cluster: host:port of every node, separated by commas.
func (c *Cluster) Addrs() string { return c.ListenerAddrs(plain) }

// Addr is the host:port on which a node's plain listener listens.
func (c *Cluster) Addr(node int) string { return c.nodes[node].addr(plain) }

// ListenerAddrs is Addrs for one of Options.Listeners.
func (c *Cluster) ListenerAddrs(name string) string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr(name))
	}
	return strings.Join(addrs, ",")
}

// Kill ends a node as a power cut does (SIGKILL) and returns when it is gone. Its data stays.
func (c *Cluster) Kill(node int) { c.nodes[node].kill() }

// Pause freezes a node (SIGSTOP): its sockets stay open and nothing answers.
func (c *Cluster) Pause(node int) {
	c.t.Helper()
	c.nodes[node].signal(c.t, (*child.Process).Pause)
}

// Resume lets a paused node go on.
func (c *Cluster) Resume(node int) {
	c.t.Helper()
	c.nodes[node].signal(c.t, (*child.Process).Resume)
}

// Start starts a node that was killed, on the same ports, with the data that it has. It does not
// wait for the node to serve clients: Ready does.
func (c *Cluster) Start(node int) {
	c.t.Helper()
	if err := c.start(c.nodes[node]); err != nil {
		c.t.Error(err)
	}
}

// Wipe deletes the data of a node that was killed. Started again it is an empty member of the same
// cluster.
func (c *Cluster) Wipe(node int) {
	c.t.Helper()
	n := c.nodes[node]
	if n.process != nil {
		c.t.Errorf("wipe node %d: it is running, kill it first", node)
	} else if err := os.RemoveAll(n.data()); err != nil {
		c.t.Errorf("wipe node %d: %v", node, err)
	}
}

// Ready waits until every node that was not killed serves clients and knows of all the others.
func (c *Cluster) Ready(ctx context.Context) error {
	running := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n.process == nil })
	for _, n := range running {
		if err := n.ready(ctx, len(running)); err != nil {
			return err
		}
	}
	return nil
}

// Close kills all nodes. The test's end calls it.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		n.kill()
		n.releasePorts()
	}
}

// start formats the node's storage if it has none and starts the process.
func (c *Cluster) start(n *node) error {
	if n.process != nil {
		return fmt.Errorf("start node %d: it is running", n.id)
	}
	if _, err := os.Stat(filepath.Join(n.data(), "meta.properties")); err != nil {
		args := append([]string{"java", c.opt.Version, "kafka.tools.StorageTool", "format",
			"--cluster-id", c.id, "--config", n.config()}, c.opt.Format...)
		if out, err := exec.Command(c.script, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("format the storage of node %d: %w\n%s", n.id, err, out)
		}
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of node %d: %w", n.id, err)
	}
	defer log.Close() // the process has it, too
	cmd := exec.Command(c.script, "java", c.opt.Version, "kafka.Kafka", n.config())
	cmd.Stdout, cmd.Stderr = log, log
	n.process, err = child.Start(cmd)
	if err != nil {
		return fmt.Errorf("start node %d: %w", n.id, err)
	}
	return nil
}

// configure writes a node's properties: those that all test brokers share, then its own, of which a
// later one wins over an earlier one.
func (c *Cluster) configure(n *node) error {
	base, err := os.ReadFile(filepath.Join(filepath.Dir(c.script), "server.properties"))
	if err != nil {
		return fmt.Errorf("read the properties that all test brokers share: %w", err)
	}
	text := bytes.NewBuffer(base)
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for name, value := range c.properties(n) {
		fmt.Fprintf(text, "%s=%s\n", name, escape.Replace(value))
	}
	return os.WriteFile(n.config(), text.Bytes(), 0o644)
}

// properties are a node's own. Nodes speak to each other on a listener of their own: what a test
// does to the plain one (a proxy that cuts it, an advertised name that is wrong) must not split the
// cluster.
func (c *Cluster) properties(n *node) map[string]string {
	voters := make([]string, len(c.nodes))
	for i, v := range c.nodes {
		voters[i] = fmt.Sprintf("%d@%s", i, v.addr("CONTROLLER"))
	}
	protocols := map[string]string{plain: "PLAINTEXT", "INTERNAL": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
	maps.Copy(protocols, c.opt.Listeners)
	var listeners, advertised, protocolMap []string
	for name, protocol := range protocols {
		listener := name + "://" + n.addr(name)
		listeners = append(listeners, listener)
		protocolMap = append(protocolMap, name+":"+protocol)
		if name != "CONTROLLER" { // it is not advertised: the voters are listed
			advertised = append(advertised, listener)
		}
	}
	copies := strconv.Itoa(min(3, len(c.nodes)))
	minCopies := strconv.Itoa(min(2, len(c.nodes)))
	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  strconv.Itoa(n.id),
		"log.dirs":                                 n.data(),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "INTERNAL",
		"listeners":                                strings.Join(listeners, ","),
		"advertised.listeners":                     strings.Join(advertised, ","),
		"listener.security.protocol.map":           strings.Join(protocolMap, ","),
		"default.replication.factor":               copies,
		"min.insync.replicas":                      minCopies,
		"offsets.topic.replication.factor":         copies,
		"transaction.state.log.replication.factor": copies,
		"transaction.state.log.min.isr":            minCopies,
	}
	maps.Copy(p, c.opt.Properties)
	return p
}

// clusterID is 16 bytes in Kafka's form. A leading dash would be taken for an option.
func clusterID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(b)
}
