//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/internal/kafkatest"
)

// A victim is a process of the real server.
type victim struct {
	*testPod
	admin string
	addr  string
}

func startVictim(t *testing.T) *victim {
	t.Helper()
	server := filepath.Join(t.TempDir(), "chatserver")
	if out, err := exec.Command("go", "build", "-o", server, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	brokers := kafkatest.Broker(t) // in this process, so that it does not count as the server's memory
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server)
	cmd.Stderr = log
	cmd.Env = []string{
		"PORT=0", "ADMIN_ADDR=127.0.0.1:0", "POD_NAME=victim", "KAFKA_BROKER=" + brokers, "TOPIC=" + kafkatest.Topic(t, brokers),
		"LOG_BYTES=1048576", "DRAIN_TIMEOUT=1s",
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		b, err := os.ReadFile(log.Name())
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	t.Cleanup(func() {
		defer log.Close()
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		if text := text(); strings.Contains(text, "panic") || strings.Contains(text, `"level":"ERROR"`) || t.Failed() {
			t.Errorf("the server's log:\n%s", text)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	at := openAt.FindStringSubmatch(line)
	metrics := metricsAt.FindStringSubmatch(text())
	if at == nil || metrics == nil {
		t.Fatalf("the server said %q (%v)", line, err)
	}
	v := &victim{testPod: &testPod{t: t, url: at[1]}, admin: metrics[1], addr: strings.TrimPrefix(at[1], "http://")}
	v.waitReady()
	return v
}

// usage is what a server has taken from its machine.
type usage struct{ goroutines, descriptors, memory float64 }

func (u usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.0f KiB", u.goroutines, u.descriptors, u.memory/1024)
}

// usage asks after a garbage collection; two, since what is in a pool survives one.
func (v *victim) usage(t *testing.T) usage {
	t.Helper()
	for range 3 {
		response, err := http.Get(v.admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	return usage{
		goroutines:  metric(t, v.admin, "go_goroutines"),
		descriptors: metric(t, v.admin, "process_open_fds"),
		memory:      metric(t, v.admin, "go_memstats_heap_alloc_bytes") + metric(t, v.admin, "go_memstats_stack_inuse_bytes"),
	}
}

// settle waits until the server has noticed that everybody has gone, and fills its log, which has a
// limit, so that it is as large as it gets.
func (v *victim) settle(t *testing.T) {
	t.Helper()
	c := v.raw("")
	text := strings.Repeat("x", 8000)
	for range 300 {
		c.send(text)
		c.want(text)
	}
	c.ws.Close()
	waitFor(t, "all clients to be gone", func() bool { return metric(t, v.admin, "chat_connections") == 0 })
}

// watch has a client talk to itself while do runs, and returns the longest that a message took.
func (v *victim) watch(t *testing.T, do func()) (worst time.Duration) {
	t.Helper()
	c := v.raw("")
	defer c.ws.Close()
	stop, worsts := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		defer func() { worsts <- worst }()
		for i := 0; ; i++ {
			text := fmt.Sprint("control ", i)
			begun := time.Now()
			c.ws.SetReadDeadline(begun.Add(patience))
			if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
				t.Errorf("the client that watches, after %d messages: %v", i, err)
				return
			}
			for {
				_, b, err := c.ws.ReadMessage()
				if err != nil {
					t.Errorf("the client that watches, after %d messages: %v", i, err)
					return
				}
				if string(b) == text { // others talk, too
					break
				}
			}
			worst = max(worst, time.Since(begun))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	return <-worsts
}
