package room

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kafkachat/chatserver/internal/chat"
	"kafkachat/chatserver/internal/framelog"
	"kafkachat/chatserver/internal/history"
	"kafkachat/chatserver/internal/ops"
	"kafkachat/chatserver/internal/sockets"
)

const (
	xff  = "X-Forwarded-For"
	user = "X-Forwarded-User"
)

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
	if limits.MessageBytes == 0 {
		limits.MessageBytes = 8192
	}
	if limits.MessageRate == 0 {
		limits.MessageRate, limits.ByteRate = 1e6, 1<<30 // nobody reaches that
	}
	return New(Config{
		Limits: limits, Pod: "a", PublishTimeout: time.Second, Sockets: loop, Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: ops.New(loop, topic, ops.NewHealth(slog.New(slog.DiscardHandler), func(error) {})),
		Place: func(url.Values, func() chat.Welcome) (asChat, asRaw sockets.Place, err error) {
			return place, place, nil
		},
	})
}

// from is a request of this remote address, with pairs of a header's name and its value.
func from(remote string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/ws", nil)
	r.Host, r.RemoteAddr = "chat.example.com", remote
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

func trusted(networks ...string) (proxies []netip.Prefix) {
	for _, n := range networks {
		proxies = append(proxies, netip.MustParsePrefix(n))
	}
	return proxies
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	const school = "https://school.example.org"
	for _, c := range []struct{ host, allowed, in, out string }{
		{"chat.example.com", "", "https://chat.example.com http://chat.example.com HTTPS://CHAT.example.com https://chat.example.com:443", // TLS may end before this server
			"https://evil.net https://chat.example.com.evil.net https://evil.net/chat.example.com https://chat.example.com@evil.net null ://"},
		{"chat.example.com:443", "", "https://chat.example.com", "http://chat.example.com"},
		{"localhost:8000", "", "http://localhost:8000", "http://localhost:8001 http://127.0.0.1:8000 http://localhost"},
		{"[::1]:8000", "", "http://[::1]:8000", ""},
		{"", "", "", "null"},
		{"chat.example.com", school, school + " " + school + ":443 https://chat.example.com", school + ":8443 http://school.example.org https://x.school.example.org"},
		{"chat.example.com", "*", "https://evil.net null", ""},
	} {
		r := &Room{Config: Config{Limits: Limits{Origins: []string{c.allowed}}}}
		for want, list := range map[bool]string{true: c.in, false: c.out} {
			for _, origin := range strings.Fields(list) {
				req := from("192.0.2.1:1000", "Origin", origin)
				if req.Host = c.host; r.ownOrigin(req) != want {
					t.Errorf("host %q, origin %q, allowed %q: let in %v", c.host, origin, c.allowed, !want)
				}
			}
		}
	}
	if !new(Room).ownOrigin(from("192.0.2.1:1000")) {
		t.Error("a program, which sends no Origin, is not let in")
	}
	for _, header := range [][]string{{"Origin", ""}, {"Origin", "https://chat.example.com", "Origin", "https://evil.net"}} {
		if new(Room).ownOrigin(from("192.0.2.1:1000", header...)) {
			t.Errorf("%q is let in", header)
		}
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	r := &Room{names: []string{"box.example.org", "box", "box.local"}}
	for _, c := range []struct{ allowed, own, other string }{
		{"", "localhost:8000 LOCALHOST localhost. chat.localhost:8000 127.0.0.1:8000 192.0.2.7 [::1]:8000 [2001:db8::1] box box.local:8000 Box.Example.org",
			"evil.example:8000 localhost.evil.example 127.0.0.1.evil.example notlocalhost box.evil.example x:y:z [::1"},
		{"chat.example.com", "chat.example.com Chat.Example.com:443 localhost", "x.chat.example.com"},
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

func TestPerson(t *testing.T) {
	t.Parallel()
	r := &Room{Config: Config{Limits: Limits{UserHeader: user, TrustedProxies: trusted("10.0.0.0/8")}}}
	for _, c := range []struct {
		remote, want string // "": refused
		header       []string
	}{
		{"10.0.0.1:9", "Jörg Müller", []string{user, " Jörg Müller "}},
		{"10.0.0.1:9", "ann@example.com", []string{user, "accounts.google.com:ann@example.com"}},
		{"192.0.2.1:9", "", []string{user, "ann", xff, "10.0.0.1"}}, // a stranger says so
		{"10.0.0.1:9", "", []string{user, "ann", user, "bob"}},      // one is the client's
		{"10.0.0.1:9", "", []string{user, " "}},
		{"10.0.0.1:9", "", []string{user, strings.Repeat("n", chat.MaxName+1)}},
	} {
		if got, ok := r.person(from(c.remote, c.header...)); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s with %q: %q, %v", c.remote, c.header, got, ok)
		}
	}
	if name, ok := new(Room).person(from("10.0.0.1:9", user, "ann")); name != "" || !ok {
		t.Errorf("where nobody signs in: %q, %v", name, ok)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	r := &Room{Config: Config{Limits: Limits{TrustedProxies: trusted("10.0.0.0/8", "192.0.2.7/32", "fd00::/8", "fe80::1/128")}}}
	const client = "198.51.100.1"
	for _, c := range []struct {
		remote, want string
		seen         []string // by proxies
	}{
		{"[::ffff:203.0.113.5]:999", "203.0.113.5", nil},
		{"203.0.113.5:999", "203.0.113.5", []string{client}}, // what a stranger says is not believed
		{"[::ffff:10.1.2.3]:999", client, []string{client}},
		{"10.1.2.3:999", client, []string{"1.1.1.1, " + client}}, // the client wrote the first
		{"[fe80::1%eth0]:999", client, []string{client}},
		{"10.1.2.3:999", client, []string{"1.1.1.1, " + client, "192.0.2.7"}},
		{"10.1.2.3:999", "10.0.0.1", []string{"10.0.0.1, 10.0.0.2"}},
		{"10.1.2.3:999", "10.0.0.2", []string{"<script>, 10.0.0.2"}},
		{"10.1.2.3:999", "10.1.2.3", []string{client + ", unknown"}},
		{"[fd00::1]:999", "2001:db8::1", []string{"[2001:db8::1]:4711"}},
		{"10.1.2.3:999", "10.0.0.9", []string{strings.Repeat("10.0.0.9,", 5000) + "10.0.0.9"}},
		{"@", "invalid IP", nil},
	} {
		req := from(c.remote)
		req.Header[xff] = c.seen
		if got := r.address(req).String(); got != c.want {
			t.Errorf("%s, seen %.50q: got %s, want %s", c.remote, c.seen, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	r := start(t, Limits{Connections: 3, PerAddress: 2}, io.Discard)
	in := func(remote string, want *refusal) {
		t.Helper()
		if _, refused := r.admit(from(remote)); refused != want {
			t.Errorf("%s: %v, want %v", remote, refused, want)
		}
	}
	in("192.0.2.1:1", nil)
	in("192.0.2.1:2", nil)
	in("192.0.2.1:3", refusedAddress)
	in("192.0.2.2:1", nil)
	in("192.0.2.3:1", refusedFull)
	r.leave(netip.MustParsePrefix("192.0.2.1/32"))
	in("192.0.2.1:4", nil)
	r = start(t, Limits{PerAddress: 1}, io.Discard)
	in("[2001:db8:0:1::1]:1", nil)
	in("[2001:db8:0:1:ffff::2]:1", refusedAddress) // whoever has one address of IPv6 has 2^64
	in("[2001:db8:0:2::1]:1", nil)
	in("@", nil)
}

// However many come and go at once, never more are inside than are allowed, and Wait returns when the last one has left.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const allowed = 5
	r := start(t, Limits{Connections: allowed}, io.Discard)
	var inside atomic.Int64
	var crowd sync.WaitGroup
	for range 50 {
		crowd.Go(func() {
			for range 200 {
				if network, refused := r.admit(from("192.0.2.1:1")); refused == nil {
					if n := inside.Add(1); n > allowed {
						t.Errorf("%d are inside", n)
					}
					inside.Add(-1)
					r.leave(network)
				}
			}
		})
	}
	crowd.Wait()
	network, refused := r.admit(from("192.0.2.1:1"))
	if refused != nil || r.Ready() != nil || r.inside != 1 || len(r.from) != 1 {
		t.Fatalf("after all have left: %v, %d are inside from %d addresses", refused, r.inside, len(r.from))
	}
	r.Drain(time.Second)
	if _, refused := r.admit(from("192.0.2.1:1")); refused != refusedStopping || r.Ready() == nil {
		t.Errorf("a closed room: %v", refused)
	}
	done := make(chan struct{})
	go func() { r.Wait(); close(done) }()
	select {
	case <-done:
		t.Error("Wait returned while a client is inside")
	case <-time.After(10 * time.Millisecond):
	}
	r.leave(network)
	<-done
}

// Files are kept for Kafka and the admin port, and for requests that are no websockets.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ connections, files, websockets, plain int }{
		{20000, 1 << 20, 20000, 512},
		{0, 1 << 20, 1<<20 - spareFiles - 512, 512},
		{20000, 1024, 840, 120},
		{20000, 64, 28, 4},
	} {
		if w, p := share(c.connections, c.files); w != c.websockets || p != c.plain {
			t.Errorf("MAX_CONNECTIONS=%d, %d files: %d websockets and %d others, want %d and %d", c.connections, c.files, w, p, c.websockets, c.plain)
		}
	}
	var log strings.Builder
	start(t, Limits{Connections: 1 << 40}, &log)
	if !strings.Contains(log.String(), "ulimit -n") {
		t.Errorf("that the process may not open as many files is not said: %s", &log)
	}
}
