package room

import (
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kafkachat/chatserver/internal/chat"
)

func request(remote string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/ws", nil)
	r.Host = "chat.example.com"
	r.RemoteAddr = remote
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func origins(t *testing.T, list string) []string {
	t.Helper()
	parsed, err := ParseOrigins(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func proxies(t *testing.T, list string) []netip.Prefix {
	t.Helper()
	parsed, err := ParseProxies(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, origin, allowed string
		in                    bool
	}{
		{"chat.example.com", "https://chat.example.com", "", true},
		{"chat.example.com", "http://chat.example.com", "", true}, // TLS may end before this server
		{"chat.example.com", "HTTPS://CHAT.example.com", "", true},
		{"chat.example.com:443", "https://chat.example.com", "", true},
		{"chat.example.com", "https://chat.example.com:443", "", true},
		{"chat.example.com:80", "http://chat.example.com", "", true},
		{"localhost:8000", "http://localhost:8000", "", true},
		{"[::1]:8000", "http://[::1]:8000", "", true},
		{"localhost:8000", "http://localhost:8001", "", false},
		{"localhost:8000", "http://127.0.0.1:8000", "", false},
		{"localhost:8000", "http://localhost", "", false},
		{"chat.example.com", "https://evil.example.com", "", false},
		{"chat.example.com", "https://chat.example.com.evil.net", "", false},
		{"chat.example.com", "https://evil.net/chat.example.com", "", false},
		{"chat.example.com", "https://chat.example.com@evil.net", "", false},
		{"chat.example.com", "null", "", false},
		{"", "null", "", false},
		{"", "", "", false},
		{"chat.example.com", "", "", false},
		{"chat.example.com", "://", "", false},
		{"chat.example.com", "chat.example.com", "", false},
		{"chat.example.com:443", "http://chat.example.com", "", false},

		{"chat.example.com", "https://school.example.org", "https://school.example.org", true},
		{"chat.example.com", "https://school.example.org", "https://a.b , https://School.Example.org/", true},
		{"chat.example.com", "https://school.example.org", "https://school.example.org:443", true},
		{"chat.example.com", "https://school.example.org:8443", "https://school.example.org", false},
		{"chat.example.com", "http://school.example.org", "https://school.example.org", false},
		{"chat.example.com", "https://x.school.example.org", "https://school.example.org", false},
		{"chat.example.com", "https://chat.example.com", "https://school.example.org", true},
		{"chat.example.com", "https://evil.net", "*", true},
		{"chat.example.com", "null", "*", true},
		{"chat.example.com", "null", "https://a.b,*", true},
	} {
		var limits Limits
		if c.allowed != "" {
			limits.Origins = origins(t, c.allowed)
		}
		r := request("192.0.2.1:1000", "Origin", c.origin)
		r.Host = c.host
		if in := with(limits).ownOrigin(r); in != c.in {
			t.Errorf("host %q, origin %q, allowed %q: let in %v, want %v", c.host, c.origin, c.allowed, in, c.in)
		}
	}
	if !with(Limits{}).ownOrigin(request("192.0.2.1:1000")) {
		t.Error("a program, which sends no Origin, is not let in")
	}
	if with(Limits{}).ownOrigin(request("192.0.2.1:1000", "Origin", "https://chat.example.com", "Origin", "https://evil.net")) {
		t.Error("two origins are let in")
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, allowed string
		own           bool
	}{
		{"localhost:8000", "", true}, {"LOCALHOST", "", true}, {"localhost.", "", true}, {"chat.localhost:8000", "", true},
		{"127.0.0.1:8000", "", true}, {"192.0.2.7", "", true}, {"[::1]:8000", "", true}, {"[2001:db8::1]", "", true}, {"0.0.0.0:8000", "", true},
		{"", "", true},                                                                 // HTTP/1.0; a browser names a host
		{"box", "", true}, {"box.local:8000", "", true}, {"Box.Example.org", "", true}, // os.Hostname is box.example.org
		{"evil.example", "", false}, {"evil.example:8000", "", false}, {"localhost.evil.example", "", false}, {"127.0.0.1.evil.example", "", false},
		{"notlocalhost", "", false}, {"box.evil.example", "", false}, {"x:y:z", "", false}, {"[::1", "", false}, {"127.1.evil", "", false},
		{"chat.example.com", "chat.example.com", true}, {"Chat.Example.com:443", "a.b, chat.example.com", true},
		{"x.chat.example.com", "chat.example.com", false}, {"localhost", "chat.example.com", true},
		{"evil.example", "*", true},
	} {
		var hosts []string
		if c.allowed != "" {
			var err error
			if hosts, err = ParseHosts(c.allowed); err != nil {
				t.Fatal(err)
			}
		}
		r := &Room{names: []string{"box.example.org", "box", "box.local"}}
		if own := r.ownHost(c.host, hosts); own != c.own {
			t.Errorf("host %q, allowed %q: %v", c.host, c.allowed, own)
		}
	}
	for _, bad := range []string{"", "a b", "https://a", "a:80", "a,", "*.a", "[::1]"} {
		if _, err := ParseHosts(bad); err == nil || !strings.Contains(err.Error(), "chat.example.com") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPerson(t *testing.T) {
	t.Parallel()
	const header = "X-Forwarded-User"
	r := with(Limits{UserHeader: header, TrustedProxies: proxies(t, "10.0.0.0/8")})
	for _, c := range []struct {
		name   string
		remote string
		header []string
		want   string // "": refused
	}{
		{"a proxy says it", "10.0.0.1:9", []string{header, "ann"}, "ann"},
		{"with spaces, not in ASCII", "10.0.0.1:9", []string{header, " Jörg Müller "}, "Jörg Müller"},
		{"Google's proxy", "10.0.0.1:9", []string{header, "accounts.google.com:ann@example.com"}, "ann@example.com"},
		{"another spelling", "10.0.0.1:9", []string{"x-forwarded-user", "ann"}, "ann"},
		{"a stranger says it", "192.0.2.1:9", []string{header, "ann"}, ""},
		{"a stranger says that a proxy has seen him", "192.0.2.1:9", []string{header, "ann", "X-Forwarded-For", "10.0.0.1"}, ""},
		{"the client and the proxy say it", "10.0.0.1:9", []string{header, "ann", header, "bob"}, ""},
		{"nobody says it", "10.0.0.1:9", nil, ""},
		{"an empty name", "10.0.0.1:9", []string{header, " "}, ""},
		{"a long name", "10.0.0.1:9", []string{header, strings.Repeat("n", chat.MaxName+1)}, ""},
		{"not UTF-8", "10.0.0.1:9", []string{header, "\xff"}, ""},
	} {
		got, refused := r.person(request(c.remote, c.header...))
		if got != c.want || (refused == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", c.name, got, refused)
		}
	}
	if name, refused := with(Limits{}).person(request("10.0.0.1:9", header, "ann")); name != "" || refused != nil {
		t.Errorf("where nobody signs in: %q, %v", name, refused)
	}
}

func TestParseOrigins(t *testing.T) {
	t.Parallel()
	if got, want := origins(t, " https://a.b/ ,http://c:80,*"), []string{"https://a.b", "http://c", "*"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"", "a.b", "https://", "https://:443", "ftp://a.b", "https://a.b/path", "https://a.b?q", "https://a.b?q=1",
		"https://u@a.b", "https://a.b#f", "https://*.a.b/x", "https://a.b,", "null", "https://a b", "**"} {
		if _, err := ParseOrigins(bad); err == nil || !strings.Contains(err.Error(), "https://host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	const xff = "X-Forwarded-For"
	d := with(Limits{TrustedProxies: proxies(t, "10.0.0.0/8, 192.0.2.7, fd00::/8, fe80::1")})
	for _, c := range []struct {
		name   string
		remote string
		header []string
		want   string
	}{
		{"no proxy", "203.0.113.5:999", nil, "203.0.113.5"},
		{"IPv6", "[2001:db8::1]:999", nil, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:203.0.113.5]:999", nil, "203.0.113.5"},
		{"a stranger's header is not believed", "203.0.113.5:999", []string{xff, "198.51.100.1"}, "203.0.113.5"},
		{"a proxy's is", "10.1.2.3:999", []string{xff, "198.51.100.1"}, "198.51.100.1"},
		{"a proxy on IPv4 in IPv6", "[::ffff:10.1.2.3]:999", []string{xff, "198.51.100.1"}, "198.51.100.1"},
		{"a proxy without a header", "10.1.2.3:999", nil, "10.1.2.3"},
		{"an empty header", "10.1.2.3:999", []string{xff, ""}, "10.1.2.3"},
		{"what the client wrote before the proxy", "10.1.2.3:999", []string{xff, "1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"a proxy on the link", "[fe80::1%eth0]:999", []string{xff, "198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.1.2.3:999", []string{xff, "1.1.1.1, 198.51.100.1, 192.0.2.7"}, "198.51.100.1"},
		{"two headers", "10.1.2.3:999", []string{xff, "198.51.100.1", xff, "192.0.2.7"}, "198.51.100.1"},
		{"all are proxies", "10.1.2.3:999", []string{xff, "10.0.0.1, 10.0.0.2"}, "10.0.0.1"},
		{"garbage of the client", "10.1.2.3:999", []string{xff, "<script>, 10.0.0.2"}, "10.0.0.2"},
		{"garbage of the proxy", "10.1.2.3:999", []string{xff, "198.51.100.1, unknown"}, "10.1.2.3"},
		{"with a port", "10.1.2.3:999", []string{xff, "198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", "[fd00::1]:999", []string{xff, "[2001:db8::1]:4711"}, "2001:db8::1"},
		{"a list without end", "10.1.2.3:999", []string{xff, strings.Repeat("10.0.0.9,", 5000) + "10.0.0.9"}, "10.0.0.9"},
		{"no address", "@", nil, "invalid IP"},
	} {
		if got := d.address(request(c.remote, c.header...)).String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestParseProxies(t *testing.T) {
	t.Parallel()
	got := proxies(t, " 10.1.2.3/8, 192.0.2.1,::ffff:192.0.2.2 , fd00::1/8")
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("fd00::/8")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "10.0.0", "proxy", "10.0.0.1:80", "::ffff:10.0.0.0/104", "10.0.0.1,"} {
		if _, err := ParseProxies(bad); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := with(Limits{PerAddress: 2})
	d.limit = 3
	in := func(remote string, want *refusal) (leave func()) {
		t.Helper()
		leave, refused := d.admit(request(remote))
		if refused != want {
			t.Errorf("%s: %v, want %v", remote, refused, want)
		}
		return leave
	}
	leave := in("192.0.2.1:1", nil)
	in("192.0.2.1:2", nil)
	in("192.0.2.1:3", refusedAddress)
	in("192.0.2.2:1", nil)
	in("192.0.2.3:1", refusedFull)
	leave()
	in("192.0.2.1:4", nil)
	d = with(Limits{PerAddress: 1})
	d.limit = 10
	in("[2001:db8:0:1::1]:1", nil)
	in("[2001:db8:0:1:ffff::2]:1", refusedAddress) // whoever has one address of IPv6 has 2^64
	in("[2001:db8:0:2::1]:1", nil)
}

// However many come and go at once, never more are inside than are allowed, and Wait returns when the
// last one has left.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const allowed = 5
	d := with(Limits{PerAddress: allowed})
	d.limit = allowed
	var inside, entered atomic.Int64
	var crowd sync.WaitGroup
	for range 50 {
		crowd.Go(func() {
			for range 200 {
				leave, refused := d.admit(request("192.0.2.1:1"))
				if refused != nil {
					continue
				}
				entered.Add(1)
				if n := inside.Add(1); n > allowed {
					t.Errorf("%d are inside", n)
				}
				inside.Add(-1)
				leave()
			}
		})
	}
	crowd.Wait()
	if entered.Load() == 0 || len(d.from) != 0 {
		t.Errorf("%d came in, and %d addresses are still counted", entered.Load(), len(d.from))
	}
	leave, refused := d.admit(request("192.0.2.1:1"))
	if refused != nil {
		t.Fatalf("after all have left: %v", refused)
	}
	d.close()
	if _, refused := d.admit(request("192.0.2.1:1")); refused != refusedStopping || d.Ready() == nil {
		t.Errorf("a closed room: %v", refused)
	}
	done := make(chan struct{})
	go func() { d.Wait(); close(done) }()
	select {
	case <-done:
		t.Error("Wait returned while somebody is inside")
	default:
	}
	leave()
	<-done
}

// Files are kept for Kafka and the admin port, and for requests that are no websockets.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ connections, files, websockets, plain int }{
		{20000, 1 << 20, 20000, 512},
		{0, 1 << 20, 1<<20 - spareFiles - 512, 512},
		{20000, 20000, 20000 - spareFiles - 512, 512},
		{20000, 1024, 840, 120},
		{100, 1024, 100, 120},
		{20000, 64, 28, 4},
		{20000, 32, 12, 4},
	} {
		if w, p := share(c.connections, c.files); w != c.websockets || p != c.plain {
			t.Errorf("MAX_CONNECTIONS=%d, %d files: %d websockets and %d others, want %d and %d", c.connections, c.files, w, p, c.websockets, c.plain)
		}
	}
}

// with returns a room that only judges.
func with(limits Limits) *Room {
	return &Room{Config: Config{Limits: limits}, limit: math.MaxInt, from: make(map[netip.Addr]int)}
}
