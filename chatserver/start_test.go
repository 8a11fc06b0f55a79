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
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/cli"
	"kafkachat/internal/kafkatest"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestStartErrorsAreClear(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		name, value string
		status      int
		want        []string
	}{
		{"PORT", "http", cli.Usage, []string{"PORT", `"http"`, "65535"}},
		{"PORT", port, cli.Failed, []string{"port " + port + " cannot be used", "PORT=", "go run ./chatserver"}},
		{"ADMIN_ADDR", "127.0.0.1:" + port, cli.Failed, []string{"ADMIN_ADDR", port}},
		{"DATA_DIR", "/dev/null/x", cli.Failed, []string{"/dev/null/x"}},
	} {
		_, err := tryPod(t, map[string]string{c.name: c.value})
		if got := cli.Exit(t.Logf, err); got != c.status {
			t.Errorf("%s=%s: exit status %d", c.name, c.value, got)
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s=%s: the error %v does not say %q", c.name, c.value, err, want)
			}
		}
	}
}

func TestEmbeddedBrokerKeepsRecordsInDataDir(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATA_DIR": t.TempDir()}
	a := startPod(t, env)
	a.raw("").echo("remember me")
	if _, err := tryPod(t, env); err == nil || !strings.Contains(err.Error(), env["DATA_DIR"]) {
		t.Errorf("a second server on the same DATA_DIR: %v", err)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	startPod(t, env).raw("?last=1").want("remember me")
}

func TestKafkaAwayAtStart(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	ln.Close() // nobody listens there now
	a, err := tryPod(t, map[string]string{"KAFKA_BROKER": ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := a.get("/"); status != 200 {
		t.Errorf("the page is not there: %d", status)
	}
	if status, why := a.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(why, "Kafka") {
		t.Errorf("/readyz: %d %q", status, why)
	}
	if w := a.chat("").event(); w.Type != "welcome" || w.Kafka != "down" || w.Where != "laptop" {
		t.Errorf("welcome %+v", w)
	}
}

// A server that cannot serve any more ends, with the reason.
func TestServingFails(t *testing.T) {
	t.Parallel()
	cfg, err := settings.Load(nil, func(name string) string { return map[string]string{"KAFKA_BROKER": "127.0.0.1:1"}[name] }, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := newPod(cfg, slog.New(slog.DiscardHandler))
	ln, ended := listen(t), make(chan error, 1)
	go func() { ended <- p.serve(t.Context(), ln, listen(t), io.Discard) }()
	waitFor(t, "the server to serve", func() bool {
		status, _ := fetch(t, "GET", "http://"+ln.Addr().String()+"/healthz")
		return status == 200
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
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		// sarama's circuit breaker sleeps for ten seconds, whatever has ended.
		goleak.VerifyNone(t, ignore, goleak.IgnoreTopFunction("time.Sleep"))
	})
	brokers := kafkatest.Broker(t)
	a := startPod(t, map[string]string{"KAFKA_BROKER": brokers, "TOPIC": kafkatest.Topic(t, brokers)})
	chat, deaf := a.chat(""), a.raw("") // the latter does not answer the close frame
	chat.arrive()
	chat.publish(longID("first"), "hello")
	deaf.want("hello")
	begun, done := time.Now(), make(chan error, 1)
	go func() { done <- a.stop() }()
	if e := chat.until("reconnect"); e.Within <= 0 {
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
