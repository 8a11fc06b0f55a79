package room

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
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
	usual, everyName := Limits{}, Limits{Hosts: []string{"*", "chat.example"}}
	signIn := Limits{Hosts: []string{"*"}, UserHeader: user, TrustedProxies: trusted("10.0.0.0/8")}
	const proxy, other, admin = "10.0.0.1:9", "192.0.2.1:9", true
	for _, c := range []struct {
		limits                           Limits
		admin                            bool
		host, method, path, remote, user string
		status                           int
	}{
		{usual, false, "localhost", "GET", "/", other, "", 200},
		{usual, false, "localhost", "OPTIONS", "/", other, "", 204},
		{usual, false, "localhost", "SPAM", "/", other, "", 405},
		{usual, false, "evil.example", "GET", "/ws", other, "", 403},
		{usual, false, "any.name", "GET", "/readyz", other, "", 404}, // a load balancer's check comes by any name
		{everyName, false, "evil.example", "GET", "/", other, "", 200},
		{everyName, admin, "evil.example:9090", "GET", "/", other, "", 403},
		{everyName, admin, "chat.example", "GET", "/", other, "", 200},
		{signIn, false, "chat.example", "GET", "/", proxy, "ann", 200},
		{signIn, false, "chat.example", "GET", "/ws", proxy, "", 401},
		{signIn, false, "chat.example", "GET", "/", other, "ann", 401}, // past the proxy
		{signIn, false, "chat.example", "GET", "/healthz", proxy, "", 404},
		{signIn, admin, "192.0.2.9", "GET", "/", other, "", 200},
	} {
		r := start(t, c.limits, io.Discard)
		server := r.Server(page)
		if c.admin {
			server = r.AdminServer(page)
		}
		if c.limits.UserHeader != "" && !c.admin && server.IdleTimeout != 650*time.Second {
			t.Errorf("a proxy's idle connection is closed after %v", server.IdleTimeout)
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
	server := r.Server(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.Enter(w, req) }))
	ask := func(status int, host string, header ...string) {
		req, w := from("192.0.2.1:9", header...), httptest.NewRecorder()
		req.Host = host
		if server.Handler.ServeHTTP(w, req); w.Code != status {
			t.Errorf("host %s, %q: %d", host, header, w.Code)
		}
	}
	for range 3 {
		ask(403, "localhost", "Origin", "http://chat.example")                 // a proxy that replaces Host
		ask(400, "localhost", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") // one that drops Upgrade
		ask(403, "chat.example")
		ask(400, "localhost") // somebody looks at /ws in a browser: nothing to change
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
	server := httptest.NewUnstartedServer(nil)
	server.Config = r.Server(http.NotFoundHandler())
	if c := server.Config; c.IdleTimeout != 30*time.Second || c.ReadTimeout != 10*time.Second || c.WriteTimeout != 30*time.Second || c.MaxHeaderBytes != 32<<10 {
		t.Errorf("%v, %v, %v, %d", c.IdleTimeout, c.ReadTimeout, c.WriteTimeout, c.MaxHeaderBytes)
	}
	server.Config.IdleTimeout = time.Hour // it shall not be what closes the first
	server.Start()
	defer server.Close()
	var first net.Conn
	for i := range 100 {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "404") {
			t.Fatalf("request %d was answered with %q, %v", i, line, err)
		}
		if first == nil {
			first = c
		}
	}
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Errorf("the first is still open: %v", err)
	}
}

// Of connections that are no websockets, the idle ones are closed first, then those older than a second. Of many that
// connect at once, twice the limit are let in, and no more.
func TestPlainConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 5
		p := plain{limit: limit, since: make(map[net.Conn]time.Time)}
		open := func() net.Conn {
			c, _ := net.Pipe()
			p.note(c, http.StateNew)
			time.Sleep(time.Millisecond)
			return c
		}
		closed := func(what string, conns ...net.Conn) {
			t.Helper()
			for _, c := range conns {
				if c.SetDeadline(time.Time{}) == nil {
					t.Errorf("%s is still open", what)
				}
			}
		}
		stuck := open()
		p.note(stuck, http.StateActive)
		idle, websocket := open(), open()
		p.note(idle, http.StateIdle)
		p.note(websocket, http.StateHijacked)
		young := []net.Conn{open(), open(), open(), open()} // and a place for the websocket
		closed("one that is idle", idle)
		time.Sleep(time.Second)
		young = append(young, open())
		closed("one that is stuck", stuck)
		young = append(young, open())
		closed("the oldest", young[0])
		p.note(young[1], http.StateActive) // a request has come
		open()
		closed("the oldest without a request", young[2])
		if young[1].SetDeadline(time.Time{}) != nil || websocket.SetDeadline(time.Time{}) != nil || len(p.since) != limit {
			t.Errorf("too many were closed: %d are open", len(p.since))
		}
		p = plain{limit: limit, since: make(map[net.Conn]time.Time)}
		for i := range 3 * limit {
			if open(); len(p.since) != min(i+1, 2*limit) {
				t.Errorf("%d connections are open after %d", len(p.since), i+1)
			}
		}
	})
}
