package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rcrowley/go-metrics"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/cli/clitest"
	"kafkachat/internal/kafkatest"
)

func TestMain(m *testing.M) {
	metrics.UseNilMetrics = true // as main does
	os.Exit(m.Run())
}

// patience bounds every wait for something that must happen; it is long because the machine may be busy with other tests.
const patience = 60 * time.Second

// A testPod is a server, in this process, started and stopped as main does it, or in another.
type testPod struct {
	t     *testing.T
	url   string // http://host:port
	admin string // the same, of the metrics
	log   *clitest.Buffer
	stop  func() error
}

// startPod runs a server with the given environment until clients may come. It ends with the test.
func startPod(t *testing.T, env map[string]string) *testPod {
	t.Helper()
	pod, err := tryPod(t, env)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server to be ready", func() bool {
		status, _ := fetch(t, "GET", pod.url+"/readyz")
		return status == http.StatusOK
	})
	return pod
}

// tryPod returns when the server says where it is, or the error of one that does not start.
func tryPod(t *testing.T, env map[string]string) (*testPod, error) {
	ctx, cancel := context.WithCancel(context.Background())
	// Unless the test has its own: free ports, no limits for clients, and all the time that a busy machine needs.
	all := map[string]string{"PORT": "0", "ADMIN_ADDR": "127.0.0.1:0", "MESSAGE_RATE": "1000000", "BYTE_RATE": "1000000000",
		"MAX_CONNECTIONS": "0", "PUBLISH_TIMEOUT": "1h"}
	if env["KAFKA_BROKER"] == "" {
		all["EMBEDDED_ADDR"] = "127.0.0.1:0"
	}
	maps.Copy(all, env)
	p := &testPod{t: t, log: &clitest.Buffer{}}
	out, stdout := io.Pipe()
	var ended sync.WaitGroup
	var err error
	ended.Go(func() {
		err = run(ctx, nil, func(name string) string { return all[name] }, stdout, io.MultiWriter(p.log, t.Output()))
		stdout.Close()
	})
	p.stop = func() error {
		cancel()
		ended.Wait()
		return err
	}
	greeting, _ := bufio.NewReader(out).ReadString('\n')
	go io.Copy(io.Discard, out)
	if greeting == "" {
		return nil, p.stop()
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	p.url = regexp.MustCompile(`"open":"(http://[^"]+)"`).FindStringSubmatch(greeting)[1]
	p.admin = regexp.MustCompile(`(http://\S+)/metrics`).FindStringSubmatch(p.log.String())[1]
	return p, nil
}

// startProcess is startPod for a process of the server, or of a script that starts it, which has to stop without a complaint.
func startProcess(t *testing.T, server string, env ...string) *testPod {
	t.Helper()
	for name, value := range onKafka(t)("process") {
		env = append(env, name+"="+value)
	}
	p := podtest.Start(t, server, t.TempDir()+"/log", "process", append(env, "DRAIN_TIMEOUT=1s")...)
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, p.Kill)
		defer kill.Stop()
		code := p.ExitCode()
		if text := p.Log(); code != 0 || strings.Contains(text, "panic") || strings.Contains(text, `"level":"ERROR"`) {
			t.Errorf("the server ended with exit code %d; its log:\n%s", code, text)
		}
	})
	p.AwaitReady(t)
	return &testPod{t: t, url: "http://" + p.Addr, admin: "http://" + p.Admin}
}

// onKafka returns the environment of pods that share one Kafka topic.
func onKafka(t *testing.T) func(pod string) map[string]string {
	brokers := kafkatest.Broker(t)
	topic := kafkatest.Topic(t, brokers)
	return func(pod string) map[string]string {
		return map[string]string{"KAFKA_BROKER": brokers, "TOPIC": topic, "POD_NAME": pod}
	}
}

// fetch asks by HTTP; host is in the Host header, if it is not the one in url.
func fetch(t *testing.T, method, url string, host ...string) (status int, body string) {
	t.Helper()
	request, _ := http.NewRequest(method, url, nil)
	request.Host = strings.Join(host, "")
	transport := http.Transport{DisableKeepAlives: true} // which does not follow redirects
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(b)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metric reads one value, 0 if it is not there.
func (p *testPod) metric(name string) (value float64) {
	p.t.Helper()
	_, body := fetch(p.t, "GET", p.admin+"/metrics")
	_, text, _ := strings.Cut(body, "\n"+name+" ")
	fmt.Sscan(text, &value)
	return value
}

func (p *testPod) waitMetric(name string, want float64) {
	p.t.Helper()
	waitFor(p.t, name+" to be "+fmt.Sprint(want), func() bool { return p.metric(name) == want })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (p *testPod) host() string { return strings.TrimPrefix(p.url, "http://") }
