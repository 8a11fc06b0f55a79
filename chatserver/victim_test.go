//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/podtest"
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
	brokers := kafkatest.Broker(t) // in this process, so that it does not count as the server's memory
	p := podtest.Start(t, podtest.Build(t), filepath.Join(t.TempDir(), "log"), "victim",
		"KAFKA_BROKER="+brokers, "TOPIC="+kafkatest.Topic(t, brokers), "LOG_BYTES=1048576", "DRAIN_TIMEOUT=1s")
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, p.Kill)
		defer kill.Stop()
		if code := p.ExitCode(); code != 0 {
			t.Errorf("the server ended with exit code %d", code)
		}
		if text := p.Log(); strings.Contains(text, "panic") || strings.Contains(text, `"level":"ERROR"`) || t.Failed() {
			t.Errorf("the server's log:\n%s", text)
		}
	})
	v := &victim{testPod: &testPod{t: t, url: "http://" + p.Addr}, admin: "http://" + p.Admin, addr: p.Addr}
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
