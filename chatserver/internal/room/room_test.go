package room

import (
	"cmp"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
)

const user = "X-Forwarded-User"

// start returns a room with these limits whose loop runs. A client starts at the log's end.
func start(t *testing.T, limits Limits, log io.Writer) *Room {
	t.Helper()
	topic := history.New(history.Config{ClientID: func(string) string { return "" }, Limit: 1 << 20})
	frames, _ := topic.Frames()
	loop := sockets.NewLoop(frames)
	var running sync.WaitGroup
	running.Go(func() { loop.Run(t.Context()) })
	t.Cleanup(running.Wait)
	place := func(*framelog.Log) (sockets.Placement, bool) { return sockets.Placement{}, true }
	limits.MessageBytes = cmp.Or(limits.MessageBytes, 8192)
	limits.MessageRate, limits.ByteRate = cmp.Or(limits.MessageRate, 1e6), cmp.Or(limits.ByteRate, 1<<30) // nobody reaches that
	return New(Config{
		Limits: limits, Pod: "a", PublishTimeout: time.Second, Sockets: loop,
		Log:     slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: ops.New(loop, topic, ops.NewHealth(slog.New(slog.DiscardHandler), func(error) {})),
		Place:   func(url.Values, func() chat.Welcome) (sockets.Place, sockets.Place, error) { return place, place, nil },
	})
}

// from is a request of this remote address.
func from(remote string, header http.Header) *http.Request {
	return &http.Request{Method: "GET", URL: &url.URL{Path: "/ws"}, Host: "chat.example.com", RemoteAddr: remote, Header: header}
}

// behindProxy are the limits of a pod where people sign in at a proxy.
func behindProxy() Limits {
	here, ip4, ip6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")
	return Limits{Hosts: []string{"*"}, UserHeader: user, TrustedProxies: []netip.Prefix{here, ip4, ip6}}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	const school = "https://school.example.org"
	for _, c := range []struct{ host, allowed, in, out string }{
		{"chat.example.com", "", "http://chat.example.com HTTPS://CHAT.example.com:443", // TLS may end before this server
			"https://evil.net https://chat.example.com.evil.net https://evil.net/chat.example.com https://chat.example.com@evil.net null ://"},
		{"chat.example.com:443", "", "https://chat.example.com", "http://chat.example.com"},
		{"localhost:8000", "", "http://localhost:8000", "http://localhost:8001 http://127.0.0.1:8000 http://localhost"},
		{"[::1]:8000", "", "http://[::1]:8000", ""},
		{"", "", "", "null"},
		{"localhost", school, school + ":443 http://localhost", school + ":8443 http://school.example.org https://x.school.example.org"},
		{"chat.example.com", "*", "https://evil.net null", ""},
	} {
		r := &Room{Config: Config{Limits: Limits{Origins: []string{c.allowed}}}}
		for want, list := range map[bool]string{true: c.in, false: c.out} {
			for _, origin := range strings.Fields(list) {
				req := from("192.0.2.1:1000", http.Header{"Origin": {origin}})
				if req.Host = c.host; r.ownOrigin(req) != want {
					t.Errorf("host %q, origin %q, allowed %q: let in %v", c.host, origin, c.allowed, !want)
				}
			}
		}
	}
	if new(Room).ownOrigin(from("192.0.2.1:1000", http.Header{"Origin": {"https://chat.example.com", "https://evil.net"}})) {
		t.Error("a page of two sites is let in")
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	r := &Room{names: []string{"box.example.org", "box", "box.local"}}
	for _, c := range []struct{ allowed, own, other string }{
		{"", "localhost:8000 LOCALHOST localhost. chat.localhost:8000 192.0.2.7:8000 [::1]:8000 [2001:db8::1] box.local:8000 Box.Example.org",
			"evil.example:8000 localhost.evil.example 127.0.0.1.evil.example notlocalhost box.evil.example x:y:z [::1"},
		{"chat.example.com", "Chat.Example.com:443 localhost", "x.chat.example.com"},
		{"*", "evil.example", ""},
	} {
		for want, list := range map[bool]string{true: c.own, false: c.other} {
			for _, host := range strings.Fields(list) {
				if own := r.ownHost(host, []string{c.allowed}); own != want {
					t.Errorf("host %q, allowed %q: %v", host, c.allowed, own)
				}
			}
		}
	}
	if !r.ownHost("", nil) { // of HTTP/1.0; a browser names one
		t.Error("a request without a host is refused")
	}
	if names := machineNames(); len(names) != 3 || !strings.HasSuffix(names[2], ".local") {
		t.Errorf("this machine is called %q", names)
	}
}

// What a proxy says of the client, and who else says so.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	r := &Room{Config: Config{Limits: behindProxy()}}
	for _, c := range []struct {
		remote, want string // "": refused
		header       http.Header
	}{
		{"10.0.0.1:9", "Jörg Müller", http.Header{user: {" Jörg Müller "}}},
		{"10.0.0.1:9", "ann@example.com", http.Header{user: {"accounts.google.com:ann@example.com"}}},
		{"192.0.2.1:9", "", http.Header{user: {"ann"}, "X-Forwarded-For": {"10.0.0.1"}}}, // a stranger says so
		{"10.0.0.1:9", "", http.Header{user: {"ann", "bob"}}},                            // one is the client's
		{"10.0.0.1:9", "", nil},
		{"10.0.0.1:9", "", http.Header{user: {" "}}},
		{"10.0.0.1:9", "", http.Header{user: {strings.Repeat("n", chat.MaxName+1)}}},
	} {
		if got, ok := r.person(from(c.remote, c.header)); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s with %q: %q, %v", c.remote, c.header, got, ok)
		}
	}
	if name, ok := new(Room).person(from("10.0.0.1:9", http.Header{user: {"ann"}})); name != "" || !ok {
		t.Errorf("where nobody signs in: %q, %v", name, ok)
	}
	const client = "198.51.100.1"
	for _, c := range []struct {
		remote, want string
		seen         []string // by proxies
	}{
		{"203.0.113.5:999", "203.0.113.5", []string{client}}, // what a stranger says is not believed
		{"[::ffff:10.1.2.3]:999", client, []string{client}},
		{"[fd00::1%eth0]:999", client, []string{client}},
		{"10.1.2.3:999", client, []string{"1.1.1.1", client + ", 10.0.0.2"}}, // the client wrote the first
		{"10.1.2.3:999", "10.0.0.1", []string{"10.0.0.1, 10.0.0.2"}},
		{"10.1.2.3:999", "10.1.2.3", []string{client + ", unknown"}},
		{"[fd00::1]:999", "2001:db8::1", []string{"[2001:db8::1]:4711"}},
		{"@", "invalid IP", nil},
	} {
		if got := r.address(from(c.remote, http.Header{"X-Forwarded-For": c.seen})).String(); got != c.want {
			t.Errorf("%s, seen %q: got %s, want %s", c.remote, c.seen, got, c.want)
		}
	}
}

// Never more are inside than are allowed, however many come at once, and none after Drain. Wait waits for the last to leave.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := start(t, Limits{Connections: 3, PerAddress: 2}, io.Discard)
	var inside atomic.Int64
	var crowd sync.WaitGroup
	for range 100 {
		crowd.Go(func() {
			if _, refused := r.admit(from("192.0.2.1:1", nil)); refused == nil {
				inside.Add(1)
			}
		})
	}
	crowd.Wait()
	if n := inside.Load(); n != 2 {
		t.Errorf("%d of a crowd are inside", n)
	}
	in := func(remote string, want *refusal) {
		t.Helper()
		if _, refused := r.admit(from(remote, nil)); refused != want {
			t.Errorf("%s: %v, want %v", remote, refused, want)
		}
	}
	in("[2001:db8:0:1::1]:1", nil)
	in("192.0.2.3:1", refusedFull)
	r.leave(netip.MustParsePrefix("192.0.2.1/32"))
	r.leave(netip.MustParsePrefix("192.0.2.1/32"))
	in("[2001:db8:0:1::1]:2", nil)
	in("[2001:db8:0:1:ffff::2]:1", refusedAddress) // whoever has one address of IPv6 has 2^64
	in("[2001:db8:0:2::1]:1", nil)
	r.leave(netip.MustParsePrefix("2001:db8:0:2::/64"))
	in("@", nil)
	if err := r.Ready(); err != nil || r.inside != 3 || len(r.from) != 2 {
		t.Errorf("%d are inside from %d addresses, %v", r.inside, len(r.from), err)
	}
	r.Drain(time.Second)
	in("192.0.2.1:1", refusedStopping)
	if r.Ready() == nil {
		t.Error("a closed room is ready")
	}
	done := make(chan struct{})
	go func() { r.Wait(); close(done) }()
	for range 3 {
		select {
		case <-done:
			t.Fatal("Wait returned while a client is inside")
		case <-time.After(10 * time.Millisecond):
		}
		r.leave(netip.Prefix{})
	}
	<-done
}

// Which requests are answered by which server, in which settings; and what every answer says to browsers.
func TestGuard(t *testing.T) {
	t.Parallel()
	const own = "default-src 'self'" // of the page
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Security-Policy", own) })
	usual, everyName, signIn := Limits{}, Limits{Hosts: []string{"*", "chat.example"}}, behindProxy()
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
		{usual, false, "any.name", "GET", "/readyz", other, "", 200}, // a load balancer's check comes by any name
		{everyName, admin, "evil.example:9090", "GET", "/", other, "", 403},
		{everyName, admin, "chat.example", "GET", "/", other, "", 200},
		{signIn, false, "chat.example", "GET", "/", proxy, "ann", 200},
		{signIn, false, "chat.example", "GET", "/ws", other, "ann", 401}, // past the proxy
		{signIn, false, "chat.example", "GET", "/healthz", proxy, "", 200},
		{signIn, admin, "192.0.2.9", "GET", "/", other, "", 200},
	} {
		r := start(t, c.limits, io.Discard)
		server := r.Server(page)
		if c.admin {
			server = r.AdminServer(page)
		}
		w := httptest.NewRecorder()
		req := from(c.remote, http.Header{user: {c.user}})
		req.Method, req.Host, req.URL.Path = c.method, c.host, c.path
		server.Handler.ServeHTTP(w, req)
		h, allow, csp := w.Header(), "", "default-src 'none'; frame-ancestors 'none'"
		switch c.status {
		case 200:
			csp = own
		case 204, 405:
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
	ask := func(status int, host string, header http.Header) {
		req, w := from("192.0.2.1:9", header), httptest.NewRecorder()
		req.Host = host
		if server.Handler.ServeHTTP(w, req); w.Code != status {
			t.Errorf("host %s, %q: %d", host, header, w.Code)
		}
	}
	for range 3 {
		ask(403, "localhost", http.Header{"Origin": {"http://chat.example"}})                 // a proxy that replaces Host
		ask(400, "localhost", http.Header{"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}) // one that drops Upgrade
		ask(403, "chat.example", nil)
		ask(400, "localhost", nil) // somebody looks at /ws in a browser: nothing to change
	}
	for want, n := range map[string]int{
		`"level":"WARN","msg":"clients are refused"`: 3, `"host":"chat.example","origin":""`: 1, `"origin":"http://chat.example"`: 1,
		"proxy_set_header Host $http_host": 1, "proxy_set_header Upgrade $http_upgrade": 1, "add it to ALLOWED_HOSTS": 1,
	} {
		if got := strings.Count(log.String(), want); got != n {
			t.Errorf("%d times %s in\n%s", got, want, &log)
		}
	}
}

// Of connections that are no websockets, the idle are closed first, then the oldest; of a crowd, twice the limit are let in.
func TestPlainConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 5
		r := &Room{Config: Config{Log: slog.New(slog.DiscardHandler)}, plain: limit}
		s := r.Server(nil)
		if s.IdleTimeout != 30*time.Second || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 30*time.Second || s.MaxHeaderBytes != 32<<10 {
			t.Errorf("%v, %v, %v, %d", s.IdleTimeout, s.ReadTimeout, s.WriteTimeout, s.MaxHeaderBytes)
		}
		open := func(more ...http.ConnState) net.Conn {
			c, _ := net.Pipe()
			for _, state := range append([]http.ConnState{http.StateNew}, more...) {
				s.ConnState(c, state)
			}
			time.Sleep(time.Millisecond)
			return c
		}
		closed := func(c net.Conn) bool { return c.SetDeadline(time.Time{}) != nil }
		stuck, idle, websocket := open(http.StateActive), open(http.StateIdle), open(http.StateHijacked)
		young := []net.Conn{open(), open(), open(), open()} // and a place for the websocket
		if !closed(idle) || closed(stuck) {
			t.Error("not the idle one is closed")
		}
		time.Sleep(time.Second)
		young = append(young, open())
		if !closed(stuck) || closed(young[0]) {
			t.Error("not the one that is stuck is closed")
		}
		s.ConnState(young[0], http.StateActive) // a request has come
		open()
		if i := slices.IndexFunc(young, closed); i != 1 || closed(websocket) {
			t.Errorf("young connection %d is closed, and the websocket is: %v", i, closed(websocket))
		}
		r.Limits = behindProxy()
		if s = r.Server(nil); s.IdleTimeout != 650*time.Second {
			t.Errorf("a proxy's idle connection is closed after %v", s.IdleTimeout)
		}
		var crowd []net.Conn
		for range 3 * limit {
			crowd = append(crowd, open())
		}
		if crowd = slices.DeleteFunc(crowd, closed); len(crowd) != 2*limit {
			t.Errorf("%d of a crowd's connections are open", len(crowd))
		}
	})
}

// Files are kept for Kafka and the admin port, and for requests that are no websockets.
func TestShare(t *testing.T) {
	t.Parallel()
	if websockets, plain := share(0, 1<<20); websockets != 1<<20-spareFiles-512 || plain != 512 {
		t.Errorf("%d websockets and %d others", websockets, plain)
	}
	var log strings.Builder
	start(t, Limits{Connections: 1 << 40}, &log)
	if !strings.Contains(log.String(), "ulimit -n") {
		t.Errorf("that the process may not open as many files is not said: %s", &log)
	}
}
