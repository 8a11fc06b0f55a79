package main

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Which addresses there are; none says what the server runs on.
func TestAddresses(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"POD_NAME": "pod <1>", "ALLOWED_ORIGINS": "*"})
	if !strings.Contains(a.log.String(), `"level":"WARN","msg":"ALLOWED_ORIGINS=*`) {
		t.Errorf("what is dangerous is not in the log:\n%s", a.log)
	}
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 200, "pod &lt;1&gt;"}, {"HEAD", "/", 200, ""}, {"GET", "/page.js", 200, ""}, {"GET", "/chat.css", 200, ""},
		{"GET", "/healthz", 200, "ok"}, {"HEAD", "/healthz", 200, ""}, {"GET", "/readyz", 200, "ok"},
		{"GET", "/nothing/here", 404, ""}, {"GET", "/metrics", 404, ""}, {"GET", "/debug/pprof/", 404, ""}, {"GET", "/debug/vars", 404, ""},
		{"GET", "/.git/config", 404, ""}, {"GET", "/page.go", 404, ""}, {"GET", "/index.html", 404, ""},
		{"GET", "/ws", 400, "websocket"}, {"HEAD", "/ws", 400, ""}, {"GET", "/ws?last=-1", 400, "last"}, {"GET", "/ws?last=x", 400, "last"},
		{"POST", "/", 405, ""}, {"POST", "/ws", 405, ""}, {"DELETE", "/healthz", 405, ""}, {"TRACE", "/", 405, ""},
		{"OPTIONS", "/", 204, ""}, {"OPTIONS", "/ws", 204, ""}, {"OPTIONS", "/nothing", 204, ""},
	} {
		status, body := fetch(t, c.method, a.url+c.path)
		if status != c.status || !strings.Contains(body, c.body) || strings.Contains(body, "go1.") || c.method == "HEAD" && body != "" {
			t.Errorf("%s %s: status %d, want %d, %.200q", c.method, c.path, status, c.status, body)
		}
	}
}

// Pages of other web sites, other names of the server (DNS rebinding) and too many clients are refused, are told why, and
// are counted; the operator is told once what to change.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	const school, xff = "https://school.example.org", "X-Forwarded-For"
	a := startPod(t, map[string]string{"ALLOWED_ORIGINS": school, "MAX_CONNECTIONS": "5", "MAX_CONNECTIONS_PER_ADDRESS": "2", "TRUSTED_PROXIES": "127.0.0.0/8,::1"})
	refused := func(reason string, status int, says string, header ...string) {
		t.Helper()
		_, response, err := a.tryDial(header...)
		if err == nil || response == nil || response.StatusCode != status {
			t.Fatalf("%q: %v, %+v", header, err, response)
		}
		if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), says) || (response.Header.Get("Retry-After") != "") != (status == 503) {
			t.Errorf("%q: is told %q, %v", header, body, response.Header)
		}
	}
	var in []*websocket.Conn
	for _, header := range [][]string{{"Origin", a.url}, {"Origin", school}, {xff, "192.0.2.1"}, {xff, "192.0.2.1"}} {
		ws, _, err := a.tryDial(header...)
		if err != nil {
			t.Fatalf("%q: %v", header, err)
		}
		in = append(in, ws)
	}
	refused("per_address", 503, "this address", xff, "198.51.100.9, 192.0.2.1")
	for _, origin := range []string{"https://evil.example.com", "null", strings.Replace(a.url, "localhost", "evil", 1)} {
		refused("origin", 403, "ALLOWED_ORIGINS", "Origin", origin)
	}
	if _, _, err := a.tryDial(xff, "192.0.2.2"); err != nil {
		t.Error(err)
	}
	refused("full", 503, "full", xff, "192.0.2.3")
	for _, url := range []string{a.url + "/", a.url + "/ws", a.admin + "/metrics", a.admin + "/debug/pprof/heap"} {
		if status, _ := fetch(t, "GET", url, "Host", "evil.example", "Origin", "http://evil.example"); status != http.StatusForbidden {
			t.Errorf("%s by another name: %d", url, status)
		}
	}
	for reason, want := range map[string]float64{"per_address": 1, "origin": 3, "full": 1, "host": 4} {
		a.waitMetric(`chat_connections_refused_total{reason="`+reason+`"}`, want)
	}
	if n := strings.Count(a.log.String(), "clients are refused"); n != 4 {
		t.Errorf("%d lines in the log for four reasons:\n%s", n, a.log)
	}
	if status, _ := a.get("/"); status != http.StatusOK {
		t.Errorf("a full server does not show the page: %d", status)
	}
	in[3].Close()
	waitFor(t, "the place of one who left", func() bool {
		_, _, err := a.tryDial(xff, "192.0.2.1")
		return err == nil
	})
}

func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil)
	for _, header := range []string{"X: " + strings.Repeat("a", 1<<20), strings.Repeat("X: y\r\n", 1<<17), "Sec-WebSocket-Protocol: " + strings.Repeat("chat.v1,", 1<<17)} {
		c := a.connect()
		go io.WriteString(c, handshake+header+"\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.Contains(line, " 431 ") {
			t.Errorf("answered with %q", line)
		}
	}
}
