//go:build faults

package faults

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/child"
	"kafkachat/internal/kafkatest"
)

// A pod is one process of the real server, with a proxy between it and Kafka.
type pod struct {
	*podtest.Pod
	proxy *kafkatest.Proxy
	asked bool // to end
}

// startPod starts a process and returns when it listens.
func startPod(t *testing.T, server, name, brokers, topic string, env ...string) *pod {
	t.Helper()
	p := &pod{proxy: kafkatest.NewProxy(t, brokers)}
	logs := option[string]("logs")
	if logs == "" {
		logs = t.TempDir()
	}
	p.Pod = podtest.Start(t, server, filepath.Join(logs, topic+"-"+name+".log"), name,
		append([]string{"TOPIC=" + topic, "KAFKA_BROKER=" + p.proxy.Addr(), "LOG_LEVEL=debug"}, env...)...)
	return p
}

// kill ends the pod as a lost machine does, and returns when it has ended.
func (p *pod) kill() {
	p.asked = true
	p.Kill()
}

// terminate asks the pod to stop, as Kubernetes does.
func (p *pod) terminate() {
	p.asked = true
	p.Signal(syscall.SIGTERM)
}

// awaitEnd waits until a pod that was asked to stop has stopped, and checks that it did so well.
func (p *pod) awaitEnd(t *testing.T) {
	const drainTimeout = 30 * time.Second
	select {
	case <-p.Ended():
		if code := p.ExitCode(); code != 0 {
			t.Errorf("pod %s ended with exit code %d; its log:\n%s", p.Name, code, p.tail())
		}
	case <-time.After(drainTimeout):
		t.Errorf("pod %s did not end within %s; its log:\n%s", p.Name, drainTimeout, p.tail())
	}
}

// signal pauses or resumes the pod.
func (p *pod) signal(t *testing.T, send func(*child.Process) error) {
	t.Helper()
	if err := send(p.Process); err != nil {
		t.Errorf("signal pod %s: %v", p.Name, err)
	}
}

// tail is the end of the pod's log, without what is said of each message.
func (p *pod) tail() string {
	const most = 40
	var lines []string
	for line := range strings.Lines(p.Log()) {
		if !strings.Contains(line, `"level":"DEBUG"`) {
			lines = append(lines, line)
		}
	}
	if len(lines) > most {
		lines = append([]string{fmt.Sprintf("(%d lines)\n", len(lines)-most)}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "")
}
