package room

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
	"kafkachat/internal/kafka"
)

// start returns a room with these limits whose loop runs. A client starts at the log's end.
func start(t *testing.T, limits Limits, log io.Writer) *Room {
	t.Helper()
	topic := history.New(history.Config{Limit: 1 << 20})
	frames, _ := topic.Frames()
	loop := sockets.NewLoop(frames)
	metrics := ops.New(ops.Parts{
		Conns: loop, History: topic, Health: ops.NewHealth(slog.New(slog.DiscardHandler), func(error) {}), Ends: new(kafka.Cluster).NewEnds("ends", "chat", 0, func(error) {}),
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		loop.Run(t.Context())
	}()
	t.Cleanup(func() { <-ended })
	place := func(log *framelog.Log) (sockets.Placement, bool) { return sockets.Placement{}, true }
	if limits.MessageBytes == 0 {
		limits.MessageBytes = 8192
	}
	return New(Config{
		Limits: limits, Pod: "a", PublishTimeout: time.Second, Sockets: loop, Metrics: metrics, Log: slog.New(slog.NewJSONHandler(log, nil)),
		Arrive: func(url.Values, string) (chat, raw sockets.Place, err error) { return place, place, nil },
	})
}

func TestEveryAnswerIsHardened(t *testing.T) {
	t.Parallel()
	const own = "default-src 'self'"
	r := start(t, Limits{}, io.Discard)
	handler := r.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Security-Policy", own)
			return
		}
		http.NotFound(w, r)
	})).Handler
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/page", 200, ""},
		{"HEAD", "/page", 200, ""},
		{"GET", "/nothing", 404, ""},
		{"OPTIONS", "/page", 204, "GET, HEAD, OPTIONS"},
		{"POST", "/page", 405, "GET, HEAD, OPTIONS"},
		{"TRACE", "/nothing", 405, "GET, HEAD, OPTIONS"},
		{"SPAM", "/page", 405, "GET, HEAD, OPTIONS"},
		{"GET", "//evil.example/page", 403, ""}, // another Host
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(c.method, c.path, nil)
		if c.status != 403 {
			req.Host = "localhost"
		}
		handler.ServeHTTP(w, req)
		h := w.Header()
		if w.Code != c.status || h.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allowed are %q", c.method, c.path, w.Code, h.Get("Allow"))
		}
		want := "default-src 'none'; frame-ancestors 'none'"
		if c.status == 200 {
			want = own
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Security-Policy") != want {
			t.Errorf("%s %s: %v", c.method, c.path, h)
		}
	}
}

// Which requests are answered by which server, in which settings.
func TestGuard(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	signIn := Limits{Hosts: []string{"*"}, UserHeader: "X-User", TrustedProxies: proxies(t, "10.0.0.0/8")}
	for _, c := range []struct {
		name         string
		limits       Limits
		admin        bool
		remote, path string
		host, user   string
		status       int
	}{
		{"by address", Limits{}, false, "192.0.2.1:9", "/", "192.0.2.9:8000", "", 200},
		{"by a foreign name", Limits{}, false, "192.0.2.1:9", "/", "evil.example", "", 403},
		{"a websocket by a foreign name", Limits{}, false, "192.0.2.1:9", "/ws", "evil.example", "", 403},
		{"a load balancer's health check", Limits{}, false, "192.0.2.1:9", "/readyz", "any.name", "", 200},
		{"by an allowed name", Limits{Hosts: []string{"chat.example"}}, false, "192.0.2.1:9", "/", "chat.example", "", 200},
		{"every name", Limits{Hosts: []string{"*"}}, false, "192.0.2.1:9", "/", "evil.example", "", 200},
		{"the admin port by address", Limits{}, true, "192.0.2.1:9", "/metrics", "127.0.0.1:9090", "", 200},
		{"the admin port by a foreign name", Limits{}, true, "192.0.2.1:9", "/debug/pprof/heap", "evil.example:9090", "", 403},
		{"the admin port, every name", Limits{Hosts: []string{"*"}}, true, "192.0.2.1:9", "/debug/pprof/heap", "evil.example:9090", "", 403},
		{"the admin port by an allowed name", Limits{Hosts: []string{"*", "chat.example"}}, true, "192.0.2.1:9", "/metrics", "chat.example", "", 200},
		{"signed in", signIn, false, "10.0.0.1:9", "/", "chat.example", "ann", 200},
		{"not signed in", signIn, false, "10.0.0.1:9", "/", "chat.example", "", 401},
		{"not signed in, websocket", signIn, false, "10.0.0.1:9", "/ws", "chat.example", "", 401},
		{"past the proxy", signIn, false, "192.0.2.1:9", "/", "chat.example", "ann", 401},
		{"not signed in, health", signIn, false, "192.0.2.1:9", "/healthz", "chat.example", "", 200},
		{"not signed in, readiness", signIn, false, "192.0.2.1:9", "/readyz", "chat.example", "", 200},
		{"not signed in, admin port", signIn, true, "192.0.2.1:9", "/metrics", "192.0.2.9", "", 200},
	} {
		r := start(t, c.limits, io.Discard)
		server := r.Server(ok)
		if c.admin {
			server = r.AdminServer(ok)
		}
		req := httptest.NewRequest("GET", c.path, nil)
		req.Host, req.RemoteAddr = c.host, c.remote
		if c.user != "" {
			req.Header.Set("X-User", c.user)
		}
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, req)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.status)
		}
	}
}

// A refusal is logged once a minute for each reason, with what the operator has to change.
func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := start(t, Limits{}, &log)
	server := httptest.NewServer(r.Server(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.Enter(w, req) })).Handler)
	defer server.Close()
	for range 3 {
		for _, c := range []struct {
			status int
			host   string
			header []string
		}{
			{403, "localhost", []string{"Origin", "http://chat.example"}},                 // a proxy that replaces Host
			{400, "localhost", []string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}}, // one that drops Upgrade
			{403, "chat.example", nil},
			{400, "localhost", nil}, // somebody looks at /ws in a browser: nothing to change
		} {
			req, err := http.NewRequest("GET", server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host, req.Header = c.host, request("", c.header...).Header
			response, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != c.status {
				t.Errorf("%+v: %s", c, response.Status)
			}
		}
	}
	if n := strings.Count(log.String(), `"level":"WARN","msg":"clients are refused"`); n != 3 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	for _, want := range []string{"proxy_set_header Host $http_host", "proxy_set_header Upgrade $http_upgrade", "ALLOWED_HOSTS", `"origin":"http://chat.example"`, `"host":"chat.example"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, &log)
		}
	}
}

// However many idle connections there are, a new one is served, and the idle ones make room for it.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	r := start(t, Limits{}, io.Discard)
	r.plain.limit = 8
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	server := r.Server(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/stuck" {
			<-stuck
		}
	}))
	go server.Serve(ln)
	defer server.Close()
	defer close(stuck)
	get := func(path string) net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
		return c
	}
	answered := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && strings.Contains(line, "200")
	}
	busy := get("/stuck")
	for i := range 100 {
		if !answered(get("/")) {
			t.Fatalf("request %d was not answered", i)
		}
	}
	busy.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := busy.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("a request was cut off while others were idle: %v", err)
	}
	r.plain.mu.Lock()
	if n := len(r.plain.conns); n > 16 { // twice as many within a second
		t.Errorf("%d connections are counted", n)
	}
	r.plain.mu.Unlock()
	for range 20 { // now all are stuck
		get("/stuck")
	}
	if !answered(get("/")) {
		t.Error("a request was not answered while others were stuck")
	}
}

// Many who come at once, as after the end of another pod, are let in; twice as many as there may be are too many.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	p := plain{limit: 10}
	for i := range 20 {
		if victim := p.count(new(net.TCPConn), http.StateNew); victim != nil {
			t.Fatalf("connection %d of 20 costs another one", i+1)
		}
	}
	if victim := p.count(new(net.TCPConn), http.StateNew); victim == nil || len(p.conns) != 20 {
		t.Errorf("%d connections are there", len(p.conns))
	}
}

func TestIdleTime(t *testing.T) {
	t.Parallel()
	if s := start(t, Limits{}, io.Discard).Server(nil); s.IdleTimeout != 30*time.Second || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 30*time.Second {
		t.Errorf("%v, %v, %v", s.IdleTimeout, s.ReadTimeout, s.WriteTimeout)
	}
	if s := start(t, Limits{TrustedProxies: proxies(t, "10.0.0.0/8")}, io.Discard).Server(nil); s.IdleTimeout != 650*time.Second {
		t.Errorf("behind a proxy: %v", s.IdleTimeout)
	}
}
