package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
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
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/chat.js", 200}, {"GET", "/chat.css", 200},
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
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("a client's fault is a warning:\n%s", log)
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

// A stranger who says that he is a proxy is not believed.
func TestForwardedForOfAStranger(t *testing.T) {
	t.Parallel()
	a := startPod(t, map[string]string{"MAX_CONNECTIONS_PER_ADDRESS": "1"}).waitReady()
	if _, _, err := a.tryDial("X-Forwarded-For", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.tryDial("X-Forwarded-For", "192.0.2.2"); err == nil {
		t.Error("a second connection came in by another X-Forwarded-For")
	}
}

// A client faster than MESSAGE_RATE waits, and loses nothing.
func TestMessageRate(t *testing.T) {
	t.Parallel()
	const rate, messages = 50, 125 // the first 50 are free, the rest take 1.5 s
	a := startPod(t, map[string]string{"MESSAGE_RATE": strconv.Itoa(rate)}).waitReady()
	c := a.raw("")
	begun := time.Now()
	for i := range messages {
		c.send(fmt.Sprint(i))
	}
	for i := range messages {
		c.want(fmt.Sprint(i))
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("%d messages took %v", messages, took)
	}
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

// ended waits until the server has closed the connection, and returns how long that took.
func ended(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begun := time.Now()
	c.SetReadDeadline(begun.Add(patience))
	_, err := io.Copy(io.Discard, c)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Errorf("still open after %v", patience)
	}
	return time.Since(begun)
}

// Who opens a connection and dawdles loses it, whatever he is in the middle of.
func TestDawdlersAreClosed(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	var all sync.WaitGroup
	for name, say := range map[string]string{
		"says nothing":             "",
		"stops in the first line":  "GET / HT",
		"stops in the headers":     "GET / HTTP/1.1\r\nHost: x\r\nX-",
		"stops in a handshake":     "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-",
		"stops in a body":          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
		"stops in a body of parts": "POST /ws HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		c := a.connect()
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if took := ended(t, c); took > 40*time.Second { // 10 s, on a machine that is not busy
				t.Errorf("a client that %s was closed after %v", name, took)
			}
		})
	}
	all.Go(func() { // one header a second: each byte is progress, the whole is none
		c := a.connect()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n")
		for begun := time.Now(); ; time.Sleep(time.Second) {
			if _, err := io.WriteString(c, "X-Y: z\r\n"); err != nil {
				return
			}
			if time.Since(begun) > 40*time.Second {
				t.Error("a client that dribbles headers is still there")
				return
			}
		}
	})
	all.Wait()
}

// Who asks for pages and does not read them loses the connection; a websocket that is only quiet
// keeps it.
func TestTimeoutsOfAnAnswerAreNotThoseOfAWebsocket(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	quiet := a.raw("")
	deaf := a.connect()
	begun := time.Now()
	go func() {
		for { // until the server does not read any more, and then until it has closed
			if _, err := io.WriteString(deaf, "GET /chat.js HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	time.Sleep(35 * time.Second) // longer than the time-outs, which is what this is about
	quiet.send("still here")
	quiet.want("still here")
	if took := ended(t, deaf); took > time.Second || time.Since(begun) > 60*time.Second {
		t.Errorf("who does not read was closed after %v", time.Since(begun))
	}
}

func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	a := startPod(t, nil).waitReady()
	for _, header := range []string{"X: " + strings.Repeat("a", 1<<20), strings.Repeat("X: y\r\n", 1<<17), "Sec-WebSocket-Protocol: " + strings.Repeat("chat.v1,", 1<<17)} {
		c := a.connect()
		go io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+header+"\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.Contains(line, " 431 ") {
			t.Errorf("answered with %q", line)
		}
	}
}
