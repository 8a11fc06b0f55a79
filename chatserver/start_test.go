package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/kafkatest"
)

func TestStartErrorsAreClear(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		env  map[string]string
		want []string
	}{
		{map[string]string{"PORT": "http"}, []string{"PORT", `"http"`, "65535"}},
		{map[string]string{"PORT": port}, []string{"PORT=" + port, "in use"}},
		{map[string]string{"DRAIN_TIMEOUT": "30"}, []string{"DRAIN_TIMEOUT", `"30"`, "such as 10s"}},
		{map[string]string{"LOG_BYTES": "-1"}, []string{"LOG_BYTES", "-1"}},
		{map[string]string{"LOG_LEVEL": "loud"}, []string{"LOG_LEVEL", "loud", "debug"}},
		{map[string]string{"KAFKA_BROKER": "kafka:http"}, []string{"KAFKA_BROKER", "kafka:http"}},
		{map[string]string{"KAFKA_BROKER": "localhost:1", "DATA_DIR": "x"}, []string{"DATA_DIR", "KAFKA_BROKER"}},
		{map[string]string{"DATA_DIR": "/dev/null/x"}, []string{"/dev/null/x"}},
		{map[string]string{"TOPIC": "no spaces please"}, []string{"TOPIC", "no spaces please"}},
	} {
		_, err := tryPod(t, c.env)
		if err == nil {
			t.Errorf("%v: started", c.env)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: the error %q does not say %q", c.env, err, want)
			}
		}
	}
}

func TestEmbeddedBrokerKeepsRecordsInDataDir(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATA_DIR": t.TempDir()}
	a := startPod(t, env).waitReady()
	c := a.raw("")
	c.send("remember me")
	c.want("remember me")
	if _, err := tryPod(t, env); err == nil || !strings.Contains(err.Error(), env["DATA_DIR"]) {
		t.Errorf("a second server on the same DATA_DIR: %v", err)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	startPod(t, env).waitReady().raw("?last=1").want("remember me")
}

func TestKafkaAwayAtStart(t *testing.T) {
	t.Parallel()
	// A port that nobody listens on.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	a := startPod(t, map[string]string{"KAFKA_BROKER": addr})
	if status, _ := a.get("/"); status != 200 {
		t.Errorf("the page is not there: %d", status)
	}
	if status, why := a.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(why, "Kafka") {
		t.Errorf("/readyz: %d %q", status, why)
	}
	c := a.chat("")
	if w := c.event(); w.Type != "welcome" || w.Kafka != "down" || w.Where != "laptop" || w.Broker != strings.Replace(addr, "127.0.0.1", "localhost", 1) {
		t.Errorf("welcome %+v", w)
	}
	if s := c.event(); s.Type != "status" || s.Kafka != "down" || s.Reason != "Kafka is not reachable" {
		t.Errorf("a client that waits is told %+v, want why", s)
	}
}

// A server that cannot serve any more ends, with the reason.
func TestServingFails(t *testing.T) {
	t.Parallel()
	cfg, err := settings.Load(func(name string) string { return map[string]string{"KAFKA_BROKER": "127.0.0.1:1"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	p := newPod(cfg, slog.New(slog.DiscardHandler))
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	ln := listen()
	ended := make(chan error, 1)
	go func() { ended <- p.serve(t.Context(), ln, listen(), io.Discard) }()
	waitFor(t, "the server to serve", func() bool {
		response, err := http.Get("http://" + ln.Addr().String() + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
	ln.Close() // as a listener that fails for good
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "serving HTTP") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("goes on without serving")
	}
}

func TestStopLeavesNothingBehind(t *testing.T) {
	noLeaks(t)
	brokers := kafkatest.Broker(t)
	a := startPod(t, map[string]string{"KAFKA_BROKER": brokers, "TOPIC": kafkatest.Topic(t, brokers)}).waitReady()
	chat := a.chat("")
	chat.until("live", "welcome")
	deaf := a.raw("") // does not answer the close frame
	chat.say(longID("first"), "hello")
	chat.until("ack", "message")
	deaf.want("hello")
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- a.stop() }()
	if e := chat.until("reconnect", "message"); e.Within <= 0 {
		t.Errorf("reconnect %+v", e)
	}
	if code := chat.closed(); code != websocket.CloseServiceRestart {
		t.Errorf("closed with %d", code)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second { // a second, on a machine that is not busy
		t.Errorf("stopping took %v", took)
	}
}
