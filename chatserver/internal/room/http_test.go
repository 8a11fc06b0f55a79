package room

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Which requests are answered by which server, in which settings; and what every answer says to browsers.
func TestGuard(t *testing.T) {
	t.Parallel()
	const own = "default-src 'self'" // of the page
	page := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Security-Policy", own)
	})
	everyName, chatOnly := Limits{Hosts: []string{"*"}}, Limits{Hosts: []string{"*", "chat.example"}}
	signIn := Limits{Hosts: []string{"*"}, UserHeader: user, TrustedProxies: trusted("10.0.0.0/8")}
	for _, c := range []struct {
		limits       Limits
		admin        bool
		host         string
		method, path string
		remote, user string
		status       int
	}{
		{Limits{}, false, "localhost", "GET", "/", "", "", 200},
		{Limits{}, false, "localhost", "HEAD", "/", "", "", 200},
		{Limits{}, false, "localhost", "GET", "/nothing", "", "", 404},
		{Limits{}, false, "localhost", "OPTIONS", "/", "", "", 204},
		{Limits{}, false, "localhost", "POST", "/", "", "", 405},
		{Limits{}, false, "localhost", "TRACE", "/nothing", "", "", 405},
		{Limits{}, false, "localhost", "SPAM", "/", "", "", 405},
		{Limits{}, false, "192.0.2.9:8000", "GET", "/", "", "", 200},
		{Limits{}, false, "evil.example", "GET", "/", "", "", 403},
		{Limits{}, false, "evil.example", "GET", "/ws", "", "", 403},
		{Limits{}, false, "any.name", "GET", "/readyz", "", "", 404}, // a load balancer's check comes by any name
		{Limits{Hosts: []string{"chat.example"}}, false, "chat.example", "GET", "/", "", "", 200},
		{everyName, false, "evil.example", "GET", "/", "", "", 200},
		{Limits{}, true, "127.0.0.1:9090", "GET", "/", "", "", 200},
		{Limits{}, true, "evil.example:9090", "GET", "/", "", "", 403},
		{everyName, true, "evil.example:9090", "GET", "/", "", "", 403},
		{chatOnly, true, "chat.example", "GET", "/", "", "", 200},
		{signIn, false, "chat.example", "GET", "/", "10.0.0.1:9", "ann", 200},
		{signIn, false, "chat.example", "GET", "/", "10.0.0.1:9", "", 401},
		{signIn, false, "chat.example", "GET", "/ws", "10.0.0.1:9", "", 401},
		{signIn, false, "chat.example", "GET", "/", "192.0.2.1:9", "ann", 401}, // past the proxy
		{signIn, false, "chat.example", "GET", "/healthz", "10.0.0.1:9", "", 404},
		{signIn, true, "192.0.2.9", "GET", "/", "192.0.2.1:9", "", 200},
	} {
		r := start(t, c.limits, io.Discard)
		server := r.Server(page)
		if c.admin {
			server = r.AdminServer(page)
		}
		req := httptest.NewRequest(c.method, c.path, nil)
		req.Host, req.RemoteAddr = c.host, c.remote
		if c.user != "" {
			req.Header.Set(user, c.user)
		}
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, req)
		h, allow, csp := w.Header(), "", "default-src 'none'; frame-ancestors 'none'"
		if c.status == 200 {
			csp = own
		}
		if c.status == 204 || c.status == 405 {
			allow = "GET, HEAD, OPTIONS"
		}
		if w.Code != c.status || h.Get("Allow") != allow || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Security-Policy") != csp {
			t.Errorf("%+v: %d, %v", c, w.Code, h)
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
			req.Host, req.Header = c.host, from("", c.header...).Header
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
	r.plain = 8
	stuck := make(chan struct{})
	server := r.Server(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/stuck" {
			<-stuck
		}
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	busy, first := get("/stuck"), get("/")
	for i := range 100 {
		if !answered(get("/")) {
			t.Fatalf("request %d was not answered", i)
		}
	}
	if b, err := io.ReadAll(first); err != nil || !strings.Contains(string(b), "200") {
		t.Errorf("the first is still open: %v", err)
	}
	busy.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := busy.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("a request was cut off while others were idle: %v", err)
	}
	for range 20 { // now all are stuck
		get("/stuck")
	}
	if !answered(get("/")) {
		t.Error("a request was not answered while others were stuck")
	}
}

// Of many that connect at once, twice the limit are let in, and no more.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	p := plain{limit: 10, since: make(map[net.Conn]time.Time)}
	for i := range 25 {
		if p.note(new(net.TCPConn), http.StateNew); len(p.since) != min(i+1, 20) {
			t.Fatalf("%d connections are there after %d", len(p.since), i+1)
		}
	}
}

func TestIdleTime(t *testing.T) {
	t.Parallel()
	for idle, proxies := range map[time.Duration][]netip.Prefix{30 * time.Second: nil, 650 * time.Second: trusted("10.0.0.0/8")} {
		s := start(t, Limits{TrustedProxies: proxies}, io.Discard).Server(nil)
		if s.IdleTimeout != idle || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 30*time.Second || s.MaxHeaderBytes != 32<<10 {
			t.Errorf("%v, %v, %v, %d", s.IdleTimeout, s.ReadTimeout, s.WriteTimeout, s.MaxHeaderBytes)
		}
	}
}
