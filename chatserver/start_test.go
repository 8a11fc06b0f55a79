package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/sarama"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/settings"
	"kafkachat/internal/leaktest"
)

// A server with a broker inside is an island that keeps its records; two cannot have one folder.
func TestEmbeddedBroker(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATA_DIR": t.TempDir()}
	a, other := startPod(t, env), startPod(t, nil)
	raw := a.raw("")
	raw.echo("remember me")
	other.raw("").echo("only there")
	raw.echo("only here")
	if w := a.chat("").event(); !w.Standalone {
		t.Errorf("welcome %+v: want standalone", w)
	}
	_, port, _ := net.SplitHostPort(a.host())
	admin := strings.TrimPrefix(a.admin, "http://")
	for _, fault := range [][2]string{{"PORT", "http"}, {"PORT", port}, {"EMBEDDED_ADDR", admin}, {"DATA_DIR", env["DATA_DIR"]}} {
		if _, err := tryPod(t, map[string]string{fault[0]: fault[1]}); !strings.Contains(fmt.Sprint(err), fault[1]) {
			t.Errorf("%q: %v", fault, err)
		}
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	startPod(t, env).raw("?last=2").want("remember me")
}

// With a wrong KAFKA_BROKER, or no line for kafka in the hosts file, the pod stays up, and tells people and once its operator.
func TestKafkaAwayAtStart(t *testing.T) {
	t.Parallel()
	broker := sarama.NewMockBroker(t, 1)
	t.Cleanup(broker.Close)
	broker.SetHandlerByMap(map[string]sarama.MockResponse{ // a name with two dots is none: nobody's DNS is asked
		"MetadataRequest": sarama.NewMockMetadataResponse(t).SetBroker("kafka..invalid:9092", 1).SetLeader("chat", 0, 1).SetController(1),
	})
	for brokers, want := range map[string]string{
		"127.0.0.1:1": "(connection refused): correct KAFKA_BROKER, or start a broker (while KAFKA_BROKER is not set, `go run ./chatserver` has one inside",
		broker.Addr(): "127.0.0.1 kafka..invalid",
	} {
		a, err := tryPod(t, map[string]string{"KAFKA_BROKER": brokers})
		if err != nil {
			t.Fatal(err)
		}
		page, _ := fetch(t, "GET", a.url)
		ready, why := fetch(t, "GET", a.url+"/readyz")
		if page != http.StatusOK || ready != http.StatusServiceUnavailable || !regexp.MustCompile("Kafka|broker").MatchString(why) {
			t.Errorf("the page: %d; /readyz: %d %q", page, ready, why)
		}
		if w := a.chat("").event(); w.Type != "welcome" || w.Kafka != "down" {
			t.Errorf("welcome %+v", w)
		}
		waitFor(t, "what is to be done", func() bool { return strings.Contains(a.log.String(), want) })
		time.Sleep(time.Second) // for other parts of the pod, which have nothing to add; a slow machine may give the same part another reason
		if text := a.log.String(); strings.Count(text, want) != 1 || strings.Count(text, "WARN") != strings.Count(text, "the topic cannot be read; ") {
			t.Errorf("not one warning:\n%s", text)
		}
	}
}

// A server that cannot serve any more ends, with the reason.
func TestServingFails(t *testing.T) {
	t.Parallel()
	cfg, invalid := settings.Load(nil, func(name string) string { return map[string]string{"KAFKA_BROKER": "127.0.0.1:1"}[name] }, nil)
	chat, admin, err := ops.Listen(0, "127.0.0.1:0")
	if err := errors.Join(invalid, err); err != nil {
		t.Fatal(err)
	}
	chat.Close() // as a listener that fails for good
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = newPod(cfg, slog.New(slog.DiscardHandler)).serve(ctx, chat, admin, io.Discard)
	if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "serving HTTP") {
		t.Errorf("ended with %v", err)
	}
}

// A stop takes no longer than its clients need, tells them, and leaves nothing behind.
func TestStop(t *testing.T) {
	// sarama's circuit breaker sleeps for ten seconds, whatever has ended.
	leaktest.Check(t, patience, goleak.IgnoreTopFunction("time.Sleep"))
	env := onKafka(t)("a")
	env["DRAIN_TIMEOUT"] = "1h" // few clients do not need it
	a := startPod(t, env)
	chat, deaf := a.chat(""), a.raw("") // the latter does not answer the close frame
	chat.arrive()
	chat.publish(longID("first"), "hello")
	deaf.want("hello")
	done := make(chan error, 1)
	go func() { done <- a.stop() }()
	within, code, err := chat.until("reconnect").Within, chat.closed(), <-done
	if within <= 0 || code != websocket.CloseServiceRestart || err != nil {
		t.Errorf("sent away for %d ms, closed with %d; the server ended with %v", within, code, err)
	}
}
