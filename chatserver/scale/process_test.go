//go:build scale && linux

package scale

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// build compiles the server.
func build(t *testing.T) string {
	t.Helper()
	server := filepath.Join(t.TempDir(), "chatserver")
	if out, err := exec.Command("go", "build", "-o", server, "kafkachat/chatserver").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	return server
}

// spawn starts a process that ends with the test, also when the test process is killed.
func spawn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel ties the process to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Process.Wait() // not cmd.Wait, which closes pipes that are being read
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
}

// A pod is one process of the real server.
type pod struct {
	pid         int
	addr, admin string // host:port
}

// startPod starts a process and returns when it takes clients.
func startPod(t *testing.T, server, name, brokers, topic string) *pod {
	t.Helper()
	cmd := exec.Command(server)
	cmd.Env = []string{"PORT=0", "ADMIN_ADDR=127.0.0.1:0", "MAX_CONNECTIONS=0", "POD_NAME=" + name, "TOPIC=" + topic, "KAFKA_BROKER=" + brokers}
	logName := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(logName)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	spawn(t, cmd)
	greeting, _ := bufio.NewReader(out).ReadString('\n') // the last thing that it writes there
	said, err := os.ReadFile(logName)
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`http://localhost:(\d+)`).FindStringSubmatch(greeting)
	admin := regexp.MustCompile(`http://([^/]+)/metrics`).FindSubmatch(said)
	if port == nil || admin == nil {
		t.Fatalf("pod %s said %q, and not where it listens; its log:\n%s", name, greeting, said)
	}
	p := &pod{pid: cmd.Process.Pid, addr: "127.0.0.1:" + port[1], admin: string(admin[1])}
	await(t, "the pod "+name+" takes clients", func() bool {
		status, _ := get("http://" + p.addr + "/readyz")
		return status == http.StatusOK
	})
	return p
}

// records is how many records the pod has read from the topic.
func (p *pod) records(t *testing.T) int {
	t.Helper()
	_, body := get("http://" + p.admin + "/metrics")
	found := regexp.MustCompile(`(?m)^chat_records_total (\S+)$`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("the pod does not say how many records it has read:\n%s", body)
	}
	n, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// get is an HTTP request; its status is 0 if there was no answer.
func get(url string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(b)
}

// await waits until something is so.
func await(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !isSo(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", patience, what)
		}
	}
}

const loadVariable = "SCALE_LOAD" // is set for a load process

// A process is a load process, as the test sees it.
type process struct {
	pid int
	in  *json.Encoder
	out *json.Decoder
}

func startLoad(t *testing.T) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		out.Close()
	})
	spawn(t, cmd)
	return &process{cmd.Process.Pid, json.NewEncoder(in), json.NewDecoder(out)}
}

func (p *process) ask(c command) (a answer, err error) {
	if err := p.in.Encode(c); err != nil {
		return a, fmt.Errorf("asking a load process to %s: %w", c.Do, err)
	}
	if err := p.out.Decode(&a); err != nil {
		return a, fmt.Errorf("a load process that was to %s: %w", c.Do, err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("load, %s: %s", c.Do, a.Err)
	}
	return a, nil
}
