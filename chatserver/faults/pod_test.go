//go:build faults

package faults

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafkachat/internal/kafkatest"
)

// A pod is one process of the real server, with a proxy between it and Kafka.
type pod struct {
	name  string
	proxy *kafkatest.Proxy
	cmd   *exec.Cmd
	addr  string        // host:port
	log   string        // file
	asked bool          // to end
	ended chan struct{} // closed when the process has ended and was waited for
}

const podStart = 60 * time.Second // on a machine that is busy with other tests

// build compiles the server, once for all faults.
func build(t *testing.T) string {
	t.Helper()
	server := filepath.Join(t.TempDir(), "chatserver")
	if out, err := exec.Command("go", "build", "-o", server, "kafkachat/chatserver").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	return server
}

// startPod starts a process and returns when it listens. It ends with the test, also when the
// test process is killed.
func startPod(t *testing.T, server, name, brokers, topic string, env ...string) *pod {
	t.Helper()
	p := &pod{name: name, proxy: kafkatest.NewProxy(t, brokers), ended: make(chan struct{})}
	logs := option[string]("logs")
	if logs == "" {
		logs = t.TempDir()
	}
	p.log = filepath.Join(logs, topic+"-"+name+".log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(server)
	p.cmd.Env = append([]string{
		"PORT=0", "ADMIN_ADDR=127.0.0.1:0", "POD_NAME=" + name, "TOPIC=" + topic, "KAFKA_BROKER=" + p.proxy.Addr(), "LOG_LEVEL=debug",
	}, env...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	greeting := make(chan string, 1)
	go func() {
		// The kernel ties the process to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		greeting <- line
		io.Copy(io.Discard, lines)
		p.cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting pod %s: %v", name, err)
	}
	t.Cleanup(p.kill)
	select {
	case line := <-greeting:
		port := regexp.MustCompile(`http://localhost:(\d+)`).FindStringSubmatch(line)
		if port == nil {
			t.Fatalf("pod %s said %q, and not where it listens; its log:\n%s", name, line, p.tail())
		}
		p.addr = "127.0.0.1:" + port[1]
	case <-time.After(podStart):
		t.Fatalf("pod %s said nothing for %s", name, podStart)
	}
	return p
}

// awaitReady waits until the pod takes clients.
func (p *pod) awaitReady(t *testing.T) {
	t.Helper()
	client := http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(podStart); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := client.Get("http://" + p.addr + "/readyz")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("pod %s was not ready after %s; its log:\n%s", p.name, podStart, p.tail())
}

// kill ends the pod as a lost machine does, and returns when it has ended.
func (p *pod) kill() {
	p.asked = true
	p.cmd.Process.Kill()
	<-p.ended
}

// terminate asks the pod to stop, as Kubernetes does.
func (p *pod) terminate() {
	p.asked = true
	p.cmd.Process.Signal(syscall.SIGTERM)
}

// awaitEnd waits until a pod that was asked to stop has stopped, and checks that it did so well.
func (p *pod) awaitEnd(t *testing.T) {
	const drainTimeout = 30 * time.Second
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("pod %s ended with exit code %d; its log:\n%s", p.name, code, p.tail())
		}
	case <-time.After(drainTimeout):
		t.Errorf("pod %s did not end within %s; its log:\n%s", p.name, drainTimeout, p.tail())
	}
}

func (p *pod) freeze() { p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *pod) thaw()   { p.cmd.Process.Signal(syscall.SIGCONT) }

// tail is the end of the pod's log, without what is said of each message.
func (p *pod) tail() string {
	const most = 40
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, `"level":"DEBUG"`) {
			lines = append(lines, line)
		}
	}
	if len(lines) > most {
		lines = append([]string{fmt.Sprintf("(%d lines)\n", len(lines)-most)}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "")
}
