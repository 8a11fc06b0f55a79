package realkafka

import (
	"context"

	"fmt"

	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"testing"
	"time"

	"github.com/Shopify/sarama"

	"kafkachat/internal/child"
)

// node is one Kafka process and what outlives it: its directory and its ports.
type node struct {
	id      int
	dir     string
	ports   map[string]*port // by listener
	process *child.Process   // nil while it is down
}

func newNode(id int, dir string, opt Options) (*node, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of node %d: %w", id, err)
	}
	n := &node{id: id, dir: dir, ports: map[string]*port{}}
	for _, name := range append(slices.Collect(maps.Keys(opt.Listeners)), plain, "INTERNAL", "CONTROLLER") {
		p, err := reservePort()
		if err != nil {
			n.releasePorts()
			return nil, err
		}
		n.ports[name] = p
	}
	return n, nil
}

func (n *node) data() string   { return filepath.Join(n.dir, "data") }
func (n *node) config() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) log() string    { return filepath.Join(n.dir, "kafka.log") }

func (n *node) addr(listener string) string { return n.ports[listener].addr }

func (n *node) releasePorts() {
	for _, p := range n.ports {
		p.mark.Close()
	}
}

func (n *node) kill() {
	if n.process != nil {
		n.process.Kill()
		n.process = nil
	}
}

func (n *node) signal(t testing.TB, send func(*child.Process) error) {
	t.Helper()
	if n.process == nil {
		t.Errorf("node %d is not running", n.id)
	} else if err := send(n.process); err != nil {
		t.Errorf("signal node %d: %v", n.id, err)
	}
}

// ready waits until the node answers with a list of at least so many brokers.
func (n *node) ready(ctx context.Context, brokers int) error {
	const pause = 50 * time.Millisecond
	for {
		known, err := n.brokers()
		if known >= brokers {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it knows of %d brokers", known)
		}
		select {
		case <-n.process.Ended():
			return fmt.Errorf("node %d ended by itself; the end of its log:\n%s", n.id, tail(n.log()))
		case <-ctx.Done():
			return fmt.Errorf("wait until node %d serves clients: %w (%w); the end of its log:\n%s",
				n.id, ctx.Err(), err, tail(n.log()))
		case <-time.After(pause):
		}
	}
}

// brokers asks the node how many brokers the cluster has: an open port does not mean that it serves
// clients yet.
func (n *node) brokers() (int, error) {
	config := sarama.NewConfig()
	config.Net.DialTimeout, config.Net.ReadTimeout = 2*time.Second, 2*time.Second // a frozen node accepts the connection and is silent
	broker := sarama.NewBroker(n.addr(plain))
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

// port is a TCP port that a node keeps while it is down.
type port struct {
	addr string
	mark net.PacketConn
}

// reservePort finds a port below the range that the kernel gives to outgoing connections: one of
// those could otherwise take the port of a node that is down, and a client that dials a free port
// of that range may be connected to itself. The UDP port of the same number, which nobody needs,
// tells other test processes that it is taken.
func reservePort() (*port, error) {
	const first, last, attempts = 10000, 32000, 1000
	for range attempts {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		mark, err := net.ListenPacket("udp4", addr)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp4", addr); err == nil {
			l.Close()
			return &port{addr, mark}, nil
		}
		mark.Close()
	}
	return nil, fmt.Errorf("no free port between %d and %d after %d attempts", first, last, attempts)
}

// prepare finds .ci/kafka and has it fetch the jars; the error says what is missing.
func prepare(ctx context.Context, version string) (script string, err error) {
	for _, program := range []string{"bash", "java"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("real Kafka needs %s: %w", program, err)
		}
	}
	_, file, _, _ := runtime.Caller(0)
	script = filepath.Join(filepath.Dir(file), "..", "..", ".ci", "kafka")
	if out, err := exec.CommandContext(ctx, script, "jars", version).CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Kafka %s: %w\n%s", version, err, out)
	}
	return script, nil
}

// tail is the end of a log file, for an error.
func tail(name string) string {
	const size = 3000
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}
