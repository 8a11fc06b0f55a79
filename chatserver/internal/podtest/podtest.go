// Package podtest is test support: pods as processes of the real server.
package podtest

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"kafkachat/internal/child"
)

const patience = 60 * time.Second // for a pod's start, on a machine that is busy with other tests

// Build compiles the server and returns where it is.
func Build(t testing.TB) (server string) { return BuildIn(t, "") }

// BuildIn builds the server of the repository in dir; "" is this one.
func BuildIn(t testing.TB, dir string) (server string) {
	t.Helper()
	server = filepath.Join(t.TempDir(), "chatserver")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", server, "kafkachat/chatserver")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	return server
}

// A Pod is one process.
type Pod struct {
	*child.Process
	Name  string // POD_NAME
	Addr  string // host:port of the chat
	Admin string // host:port of metrics and profiles
	log   string // file
}

// Start starts a pod whose environment is its name, ports that the kernel chooses, very high rate
// limits for clients, and env. Start returns when the pod listens. The test's end kills the pod.
func Start(t testing.TB, server, log, name string, env ...string) *Pod {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the process has it, too
	cmd := exec.Command(server)
	cmd.Env = append([]string{"PORT=0", "ADMIN_ADDR=127.0.0.1:0", "POD_NAME=" + name, "MESSAGE_RATE=1000000", "BYTE_RATE=1000000000"}, env...)
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatalf("starting pod %s: %v", name, err)
	}
	t.Cleanup(process.Kill)
	p := &Pod{Process: process, Name: name, log: log}
	// They may come in any order: who reads standard error may write them to the file later.
	admin, chat := regexp.MustCompile(`http://(\S+)/metrics`), regexp.MustCompile(`open\W+http://localhost(:\d+)\W`)
	p.await(t, "listens", func() bool {
		said, open := admin.FindStringSubmatch(p.Log()), chat.FindStringSubmatch(p.Log())
		if said == nil || open == nil {
			return false
		}
		p.Admin, p.Addr = said[1], "127.0.0.1"+open[1]
		return true
	})
	return p
}

// AwaitReady waits until the pod takes clients.
func (p *Pod) AwaitReady(t testing.TB) {
	t.Helper()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	p.await(t, "takes clients", func() bool {
		answer, err := client.Get("http://" + p.Addr + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

func (p *Pod) await(t testing.TB, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !isSo(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.Ended():
			t.Fatalf("pod %s has ended with %d; its log:\n%s", p.Name, p.ExitCode(), p.Log())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s until pod %s %s; its log:\n%s", patience, p.Name, what, p.Log())
		}
	}
}

// Log returns what the pod has written.
func (p *Pod) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}
