package realkafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kafkachat/internal/child"
)

// node is one Kafka process and what outlives it: its directory and its ports.
type node struct {
	id         int
	dir        string
	ports      map[string]*port // by listener
	advertised string           // of the plain listener
	process    *child.Process   // nil while it is down
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
	n.advertised = n.addr(plain)
	if opt.Advertise != nil {
		n.advertised = opt.Advertise(id, n.advertised)
	}
	return n, nil
}

func (n *node) data() string   { return filepath.Join(n.dir, "data") }
func (n *node) config() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) log() string    { return filepath.Join(n.dir, "kafka.log") }

func (n *node) listeners() []string         { return slices.Sorted(maps.Keys(n.ports)) }
func (n *node) addr(listener string) string { return n.ports[listener].addr }
func (n *node) releasePorts() {
	for _, p := range n.ports {
		p.release()
	}
}

// writeProperties writes the node's configuration: the lines that all brokers share, then its own,
// of which a later one wins over an earlier one.
func (n *node) writeProperties(base []byte, own map[string]string) error {
	b := bytes.NewBuffer(base)
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for _, name := range slices.Sorted(maps.Keys(own)) {
		fmt.Fprintf(b, "%s=%s\n", name, escape.Replace(own[name]))
	}
	if err := os.WriteFile(n.config(), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the properties of node %d: %w", n.id, err)
	}
	return nil
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
		known, err := n.brokers(ctx)
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
func (n *node) brokers(ctx context.Context) (int, error) {
	const patience = 2 * time.Second // a frozen node accepts the connection and is silent
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.addr(plain))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// Metadata, version 1: size, api key 3, version, correlation id, no client id, no topics.
	// The answer: size, correlation id, number of brokers, ...
	if _, err := conn.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
		return 0, err
	}
	var answer struct{ Size, Correlation, Brokers int32 }
	if err := binary.Read(conn, binary.BigEndian, &answer); err != nil {
		return 0, err
	}
	if answer.Correlation != 7 {
		return 0, errors.New("what answers is not Kafka")
	}
	return int(answer.Brokers), nil
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

func (p *port) release() { p.mark.Close() }

// prepare finds .ci/kafka and has it fetch the jars; the error says what is missing.
func prepare(ctx context.Context, version string) (script string, err error) {
	for _, program := range []string{"bash", "java"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("real Kafka needs %s: %w", program, err)
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script = filepath.Join(dir, ".ci", "kafka")
		if _, err := os.Stat(script); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("real Kafka is started by .ci/kafka, which no directory above this one has")
		}
		dir = filepath.Dir(dir)
	}
	if out, err := exec.CommandContext(ctx, script, "jars", version).CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Kafka %s: %w\n%s", version, err, out)
	}
	return script, nil
}

// tail is the end of a log file, for an error.
func tail(name string) string {
	const size = 3000
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		f.Seek(-size, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return string(b)
}
