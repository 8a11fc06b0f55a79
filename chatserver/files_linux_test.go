package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kafkachat/chatserver/internal/podtest"
)

// A pod that may open few files keeps some for Kafka and its operator, whatever its clients take; and it survives
// that whoever reads its log goes away.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	// The first line of the log says where the metrics are; the second one is a broken pipe.
	poor := filepath.Join(t.TempDir(), "poor")
	script := "#!/bin/bash\nulimit -n 64\nexec " + podtest.Build(t) + " 2> >(head -n 1)\n"
	if err := os.WriteFile(poor, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	pod := startProcess(t, poor)
	first := pod.chat("")
	first.arrive()
	in, refused := 1, 0
	for range 60 {
		_, response, err := pod.tryDial("", "")
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
		c, err := net.Dial("tcp", pod.host())
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
	first.publish(longID("a"), "still here") // the first message: the producer connects now
	if n := pod.metric(`chat_connections_refused_total{reason="full"}`); int(n) != refused {
		t.Errorf("%v refusals are counted, of %d", n, refused)
	}
}
