package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rcrowley/go-metrics"
	"go.uber.org/goleak"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true // as main does
	os.Exit(m.Run())
}

// patience bounds every wait for something that must happen; it is long because the machine may be
// busy with other tests.
const patience = 60 * time.Second

// A testPod is a server in this process, started and stopped as main does it.
type testPod struct {
	t    *testing.T
	url  string // http://host:port
	stop func() error
}

// startPod runs a server with the given environment, and that of freely besides. It ends with the test.
func startPod(t *testing.T, env map[string]string) *testPod {
	t.Helper()
	pod, err := tryPod(t, env)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

var openAt = regexp.MustCompile(`"open":"(http://[^"]+)"`)

// freely are the settings of a test's server, unless the test has its own: free ports, and no pace for clients.
var freely = map[string]string{
	"PORT": "0", "ADMIN_ADDR": "127.0.0.1:0", "EMBEDDED_ADDR": "127.0.0.1:0", "MESSAGE_RATE": "1000000", "BYTE_RATE": "1000000000",
}

// tryPod returns the error of a server that does not start.
func tryPod(t *testing.T, env map[string]string) (*testPod, error) {
	ctx, cancel := context.WithCancel(context.Background())
	getenv := func(name string) string {
		if v, ok := env[name]; ok {
			return v
		}
		if name == "LOG_LEVEL" {
			return "warn"
		}
		return freely[name]
	}
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, nil, getenv, stdout, testLog{t})
		stdout.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := openAt.FindStringSubmatch(lines.Text()); m != nil {
			var err error
			stopped := false
			stop := func() error {
				if !stopped {
					stopped = true
					cancel()
					err = <-ended
				}
				return err
			}
			t.Cleanup(func() {
				if err := stop(); err != nil {
					t.Errorf("the server ended with: %v", err)
				}
			})
			go io.Copy(io.Discard, out)
			return &testPod{t: t, url: m[1], stop: stop}, nil
		}
	}
	cancel()
	return nil, <-ended
}

// testLog writes a server's log to the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// onKafka returns the environment of pods that share one Kafka topic.
func onKafka(t *testing.T) func(pod string) map[string]string {
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	return func(pod string) map[string]string {
		return map[string]string{"KAFKA_BROKER": brokers, "TOPIC": topic, "POD_NAME": pod}
	}
}

func (p *testPod) get(path string) (status int, body string) {
	p.t.Helper()
	response, err := http.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// waitReady waits until clients may come.
func (p *testPod) waitReady() *testPod {
	p.t.Helper()
	waitFor(p.t, "the server to be ready", func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	})
	return p
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A testClient is a websocket of the test's.
type testClient struct {
	t  *testing.T
	ws *websocket.Conn
}

func (p *testPod) dial(path string, protocols ...string) *testClient {
	p.t.Helper()
	dialer := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	ws, response, err := dialer.Dial("ws"+strings.TrimPrefix(p.url, "http")+path, nil)
	if err != nil {
		if response != nil {
			p.t.Fatalf("dialing %s: %v (%s)", path, err, response.Status)
		}
		p.t.Fatalf("dialing %s: %v", path, err)
	}
	p.t.Cleanup(func() { ws.Close() })
	return &testClient{p.t, ws}
}

// tryDial is a handshake with these headers, which may be refused.
func (p *testPod) tryDial(header ...string) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	dialer := websocket.Dialer{HandshakeTimeout: patience}
	ws, response, err := dialer.Dial("ws"+strings.TrimPrefix(p.url, "http")+"/ws", h)
	if ws != nil {
		p.t.Cleanup(func() { ws.Close() })
	}
	return ws, response, err
}

// raw connects without a subprotocol.
func (p *testPod) raw(query string) *testClient { p.t.Helper(); return p.dial("/ws" + query) }

// chat connects with chat.v1.
func (p *testPod) chat(query string) *testClient {
	p.t.Helper()
	return p.dial("/ws"+query, chat.Protocol)
}

func (c *testClient) send(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("sending %.50q: %v", text, err)
	}
}

func (c *testClient) read() string {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return string(b)
}

func (c *testClient) want(text string) {
	c.t.Helper()
	if got := c.read(); got != text {
		c.t.Fatalf("got %.80q, want %.80q", got, text)
	}
}

// closed waits for the close frame and returns its code, or CloseAbnormalClosure.
func (c *testClient) closed() int {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := c.ws.ReadMessage(); err != nil {
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				return closed.Code
			}
			c.t.Logf("closed with: %v", err)
			return websocket.CloseAbnormalClosure
		}
	}
}

// An event is any event of chat.v1.
type event struct {
	Type, Pod, Where, Broker, Topic, Position, Reason, Detail, ID, Name, Text, Kafka, Time string
	Resumed, Standalone, Placeholder                                                       bool
	Offset, Missing                                                                        int64
	Millis                                                                                 float64 `json:"ms"`
	Within                                                                                 int64   `json:"within_ms"`
	Partitions                                                                             int32
}

func (c *testClient) event() event {
	c.t.Helper()
	var e event
	if text := c.read(); json.Unmarshal([]byte(text), &e) != nil {
		c.t.Fatalf("not an event: %q", text)
	}
	return e
}

// until returns the next event of a type; other types but those of skip are faults.
func (c *testClient) until(kind string, skip ...string) event {
	c.t.Helper()
	for {
		e := c.event()
		if e.Type == kind {
			return e
		}
		if !strings.Contains("status pods "+strings.Join(skip, " "), e.Type) {
			c.t.Fatalf("got %+v while waiting for %q", e, kind)
		}
	}
}

func (c *testClient) say(id, text string) {
	c.t.Helper()
	b, err := json.Marshal(map[string]string{"type": "message", "id": id, "name": "Ann", "text": text})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(b))
}

// longID makes an id of a short word.
func longID(word string) string { return fmt.Sprintf("%s-0123456789abcdef", word) }

// noLeaks fails the test if it leaves goroutines behind; call it first, before anything is started.
func noLeaks(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		// sarama's circuit breaker sleeps for ten seconds, whatever has ended.
		goleak.VerifyNone(t, ignore, goleak.IgnoreTopFunction("time.Sleep"))
	})
}

func portOf(url string) string { return url[strings.LastIndex(url, ":")+1:] }
