//go:build scale && linux

package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/child"
)

// startPod starts a process of the real server and returns when it takes clients.
func startPod(t *testing.T, server, name, brokers, topic string) *podtest.Pod {
	t.Helper()
	p := podtest.Start(t, server, filepath.Join(t.TempDir(), "log"), name,
		"MAX_CONNECTIONS=0", "TOPIC="+topic, "KAFKA_BROKER="+brokers)
	p.AwaitReady(t)
	return p
}

// records is how many records a pod has read from the topic.
func records(t *testing.T, p *podtest.Pod) int {
	t.Helper()
	body := get("http://" + p.Admin + "/metrics")
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

// get returns an HTTP request's answer, or why there was none.
func get(url string) (body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
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
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatalf("starting a load process: %v", err)
	}
	t.Cleanup(p.Kill)
	return &process{p.PID(), json.NewEncoder(in), json.NewDecoder(out)}
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
