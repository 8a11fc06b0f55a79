package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func (p *testPod) connect() net.Conn {
	p.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

func TestEveryAnswerIsHardened(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/page.js", 200}, {"GET", "/chat.css", 200},
		{"GET", "/healthz", 200}, {"HEAD", "/healthz", 200}, {"GET", "/readyz", 200},
		{"GET", "/nothing", 404}, {"GET", "/metrics", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/debug/vars", 404},
		{"GET", "/.git/config", 404}, {"GET", "/page.go", 404}, {"GET", "/index.html", 404},
		{"GET", "/ws", 400}, {"HEAD", "/ws", 400}, {"GET", "/ws?last=-1", 400},
		{"POST", "/", 405}, {"POST", "/ws", 405}, {"DELETE", "/healthz", 405}, {"TRACE", "/", 405},
		{"OPTIONS", "/", 204}, {"OPTIONS", "/ws", 204}, {"OPTIONS", "/nothing", 204},
	} {
		request, err := http.NewRequest(c.method, a.url+c.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		h := response.Header
		if err != nil || response.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d (%v)", c.method, c.path, response.StatusCode, c.status, err)
		}
		if c.method == "HEAD" && len(body) > 0 {
			t.Errorf("%s %s: has a body", c.method, c.path)
		}
		csp := h.Get("Content-Security-Policy")
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" ||
			!strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s %s: headers %v", c.method, c.path, h)
		}
		if h.Get("Server")+h.Get("X-Powered-By") != "" || strings.Contains(fmt.Sprint(h, string(body)), "go1.") {
			t.Errorf("%s %s: says what it runs on: %v", c.method, c.path, h)
		}
		if allow := h.Get("Allow"); (c.status == 204 || c.status == 405) != (allow == "GET, HEAD, OPTIONS") {
			t.Errorf("%s %s: allowed are %q", c.method, c.path, allow)
		}
	}
}

func TestForeignOriginIsRefused(t *testing.T) {
	t.Parallel()
	a, log, admin := startLogged(t, map[string]string{"ALLOWED_ORIGINS": "https://school.example.org"})
	for _, origin := range []string{a.url, "https://school.example.org"} {
		if _, _, err := a.tryDial("Origin", origin); err != nil {
			t.Errorf("a page of %s: %v", origin, err)
		}
	}
	for _, origin := range []string{"https://evil.example.com", "null", strings.Replace(a.url, "localhost", "evil", 1)} {
		_, response, err := a.tryDial("Origin", origin)
		if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("a page of %s: %v", origin, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || !strings.Contains(string(body), "ALLOWED_ORIGINS") {
			t.Errorf("a page of %s is told %q (%v)", origin, body, err)
		}
	}
	if n := metric(t, admin, `chat_connections_refused_total{reason="origin"}`); n != 3 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := strings.Count(log.String(), `"level":"WARN"`); n != 1 || !strings.Contains(log.String(), "proxy_set_header Host") {
		t.Errorf("%d warnings in the log, which should say once what to change:\n%s", n, log)
	}
}

func TestAllOriginsIsSaidLoudly(t *testing.T) {
	t.Parallel()
	a, log, _ := startLogged(t, map[string]string{"ALLOWED_ORIGINS": "*"})
	if !regexp.MustCompile(`"level":"WARN","msg":"ALLOWED_ORIGINS=\*`).MatchString(log.String()) {
		t.Errorf("nothing in the log:\n%s", log)
	}
	if _, _, err := a.tryDial("Origin", "https://evil.example.com"); err != nil {
		t.Error(err)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	a, _, admin := startLogged(t, map[string]string{"MAX_CONNECTIONS": "3", "MAX_CONNECTIONS_PER_ADDRESS": "2", "TRUSTED_PROXIES": "127.0.0.0/8,::1"})
	const xff = "X-Forwarded-For"
	refused := func(reason string, header ...string) {
		t.Helper()
		_, response, err := a.tryDial(header...)
		if err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v, %+v", reason, err, response)
		}
		if n := metric(t, admin, `chat_connections_refused_total{reason="`+reason+`"}`); n != 1 {
			t.Errorf("%s: %v refusals are counted", reason, n)
		}
	}
	var first *websocket.Conn
	for range 2 {
		ws, _, err := a.tryDial(xff, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		first = ws
	}
	refused("per_address", xff, "198.51.100.9, 192.0.2.1")
	if _, _, err := a.tryDial(xff, "192.0.2.2"); err != nil {
		t.Error(err)
	}
	refused("full", xff, "192.0.2.3")
	if status, _ := a.get("/"); status != http.StatusOK {
		t.Errorf("a full server does not show the page: %d", status)
	}
	first.Close()
	waitFor(t, "the place of one who left", func() bool {
		_, _, err := a.tryDial(xff, "192.0.2.1")
		return err == nil
	})
}

// A page whose name has been pointed at this machine reads and writes nothing: DNS rebinding.
func TestForeignHostIsRefused(t *testing.T) {
	t.Parallel()
	a, log, admin := startLogged(t, nil)
	for _, url := range []string{a.url + "/", a.url + "/ws", admin + "/metrics", admin + "/debug/pprof/heap"} {
		request, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "evil.example"
		request.Header.Set("Origin", "http://evil.example")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", url, response.Status)
		}
	}
	if !strings.Contains(log.String(), "ALLOWED_HOSTS") {
		t.Errorf("nothing in the log:\n%s", log)
	}
}

// The longest message that the settings allow reaches everybody.
func TestLongestMessage(t *testing.T) {
	t.Parallel()
	env := onKafka(t)("a")
	env["MESSAGE_BYTES"] = "1000000"
	a := startPod(t, env).waitReady()
	raw, events := a.raw(""), a.chat("")
	for _, text := range []string{strings.Repeat("x", 1_000_000), strings.Repeat("\x01", 1_000_000)} { // six times as long in JSON
		raw.send(text)
		raw.want(text)
		if m := events.until("message", "welcome", "live"); m.Text != text {
			t.Errorf("%d bytes arrive", len(m.Text))
		}
	}
	events.say(longID(strings.Repeat("i", 64-18)), strings.Repeat("\x02", 1_000_000))
	events.until("ack", "message")
}

func TestMessageBytes(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"MESSAGE_BYTES": "10"}).waitReady()
	c := a.raw("")
	c.send("0123456789")
	c.want("0123456789")
	c.send("0123456789x")
	if code := c.closed(); code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}
	chat := a.chat("")
	if w, _ := chat.arrive(); w.Type != "welcome" {
		t.Fatal(w)
	}
	chat.say(longID("a"), "0123456789x")
	if e := chat.until("reject"); e.ID != longID("a") || !strings.Contains(e.Reason, "10") {
		t.Errorf("%+v", e)
	}
}

func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	for _, header := range []string{"X: " + strings.Repeat("a", 1<<20), strings.Repeat("X: y\r\n", 1<<17), "Sec-WebSocket-Protocol: " + strings.Repeat("chat.v1,", 1<<17)} {
		c := a.connect()
		go io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+header+"\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.Contains(line, " 431 ") {
			t.Errorf("answered with %q", line)
		}
	}
}
