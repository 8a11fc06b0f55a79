package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
	"kafkachat/internal/kafkatest"
)

// A pod that may open few files keeps some for Kafka and its operator, whatever its clients take; and it survives
// that whoever reads its log goes away.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Broker(t)
	cmd := exec.Command("sh", "-c", "ulimit -n 64; exec "+podtest.Build(t))
	cmd.Env = []string{"PORT=0", "ADMIN_ADDR=127.0.0.1:0", "KAFKA_BROKER=" + brokers, "TOPIC=" + kafkatest.Topic(t, brokers), "DRAIN_TIMEOUT=1s"}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	greeting, err := bufio.NewReader(stdout).ReadString('\n')
	go func() { ended <- cmd.Wait() }()
	address := openAt.FindStringSubmatch(greeting)
	if err != nil || address == nil {
		t.Fatalf("the server says %q, %v", greeting, err)
	}
	var admin string
	for lines := bufio.NewScanner(stderr); admin == "" && lines.Scan(); {
		if m := metricsAt.FindStringSubmatch(lines.Text()); m != nil {
			admin = m[1]
		}
	}
	stderr.Close() // from now on a line of the log is a broken pipe
	pod := (&testPod{t: t, url: address[1]}).waitReady()
	first := pod.chat("")
	first.until("live", "welcome")
	in, refused := 1, 0
	for range 60 {
		_, response, err := pod.tryDial()
		switch {
		case err == nil:
			in++
		case response != nil && response.StatusCode == http.StatusServiceUnavailable:
			refused++
		default:
			t.Fatalf("a client was neither let in nor refused: %v", err)
		}
	}
	if in < 20 || refused == 0 {
		t.Errorf("%d are in, %d were refused", in, refused)
	}
	for range 200 { // and HTTP connections that nobody closes
		c, err := net.Dial("tcp", strings.TrimPrefix(pod.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
			t.Fatalf("after %d clients an HTTP request is not answered: %v", in, err)
		}
	}
	first.say(longID("a"), "still here") // the first message: the producer connects now
	first.until("ack", "message")
	if n := metric(t, admin, `chat_connections_refused_total{reason="full"}`); int(n) != refused {
		t.Errorf("%v refusals are counted, of %d", n, refused)
	}
}
