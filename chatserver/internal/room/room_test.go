package room_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kafkachat/chatserver/internal/room"
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
	parsed, err := room.ParseOrigins(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func proxies(t *testing.T, list string) []netip.Prefix {
	t.Helper()
	parsed, err := room.ParseProxies(list)
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
		var limits room.Limits
		if c.allowed != "" {
			limits.Origins = origins(t, c.allowed)
		}
		r := request("192.0.2.1:1000", "Origin", c.origin)
		r.Host = c.host
		_, err := room.New(limits).Enter(r)
		if in := err == nil; in != c.in {
			t.Errorf("host %q, origin %q, allowed %q: let in %v, want %v", c.host, c.origin, c.allowed, in, c.in)
		}
		if err != nil && !errors.Is(err, room.ErrOrigin) {
			t.Errorf("origin %q: %v", c.origin, err)
		}
	}
	if _, err := room.New(room.Limits{}).Enter(request("192.0.2.1:1000")); err != nil {
		t.Errorf("a program, which sends no Origin: %v", err)
	}
	two := request("192.0.2.1:1000", "Origin", "https://chat.example.com", "Origin", "https://evil.net")
	if _, err := room.New(room.Limits{}).Enter(two); !errors.Is(err, room.ErrOrigin) {
		t.Errorf("two origins: %v", err)
	}
}

func TestParseOrigins(t *testing.T) {
	t.Parallel()
	if got, want := origins(t, " https://a.b/ ,http://c:80,*"), []string{"https://a.b", "http://c", "*"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"", "a.b", "https://", "https://:443", "ftp://a.b", "https://a.b/path", "https://a.b?q", "https://a.b?q=1",
		"https://u@a.b", "https://a.b#f", "https://*.a.b/x", "https://a.b,", "null", "https://a b", "**"} {
		if _, err := room.ParseOrigins(bad); err == nil || !strings.Contains(err.Error(), "https://host") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	const xff = "X-Forwarded-For"
	d := room.New(room.Limits{TrustedProxies: proxies(t, "10.0.0.0/8, 192.0.2.7, fd00::/8, fe80::1")})
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
		if got := d.Address(request(c.remote, c.header...)).String(); got != c.want {
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
		if _, err := room.ParseProxies(bad); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := room.New(room.Limits{Connections: 3, PerAddress: 2})
	enter := func(remote string) (func(), error) { return d.Enter(request(remote)) }
	leave, err := enter("192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter("192.0.2.1:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := enter("192.0.2.1:3"); !errors.Is(err, room.ErrPerAddress) {
		t.Errorf("the third of one address: %v", err)
	}
	if _, err := enter("192.0.2.2:1"); err != nil {
		t.Errorf("the third of all: %v", err)
	}
	if _, err := enter("192.0.2.3:1"); !errors.Is(err, room.ErrFull) {
		t.Errorf("the fourth of all: %v", err)
	}
	leave()
	if _, err := enter("192.0.2.1:4"); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	// Whoever has one address of IPv6 has 2^64.
	d = room.New(room.Limits{PerAddress: 1})
	if _, err := enter("[2001:db8:0:1::1]:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := enter("[2001:db8:0:1:ffff::2]:1"); !errors.Is(err, room.ErrPerAddress) {
		t.Errorf("a neighbour in the same network: %v", err)
	}
	if _, err := enter("[2001:db8:0:2::1]:1"); err != nil {
		t.Errorf("one of another network: %v", err)
	}
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	d := room.New(room.Limits{})
	for range 1000 {
		if _, err := d.Enter(request("192.0.2.1:1")); err != nil {
			t.Fatal(err)
		}
	}
}

// However many come and go at once, never more are inside than are allowed, and Wait returns when the
// last one has left.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const allowed = 5
	d := room.New(room.Limits{Connections: allowed, PerAddress: allowed})
	var inside, entered atomic.Int64
	var crowd sync.WaitGroup
	for range 50 {
		crowd.Go(func() {
			for range 200 {
				leave, err := d.Enter(request("192.0.2.1:1"))
				if err != nil {
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
	if entered.Load() == 0 {
		t.Error("nobody came in")
	}
	leave, err := d.Enter(request("192.0.2.1:1"))
	if err != nil {
		t.Fatalf("after all have left: %v", err)
	}
	d.Close()
	if _, err := d.Enter(request("192.0.2.1:1")); !errors.Is(err, room.ErrStopping) || d.Open() {
		t.Errorf("a closed door: %v", err)
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

func TestRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		reason string
		status int
		again  bool
	}{
		{room.ErrFull, "full", 503, true},
		{room.ErrStopping, "stopping", 503, true},
		{room.ErrPerAddress, "per_address", 503, true},
		{room.ErrOrigin, "origin", 403, false},
	} {
		w := httptest.NewRecorder()
		if reason := room.Refuse(w, c.err); reason != c.reason || w.Code != c.status {
			t.Errorf("%v: %q with status %d", c.err, reason, w.Code)
		}
		if again := w.Header().Get("Retry-After") != ""; again != c.again {
			t.Errorf("%v: Retry-After is %q", c.err, w.Header().Get("Retry-After"))
		}
		if body := strings.TrimSpace(w.Body.String()); body != c.err.Error() {
			t.Errorf("%v: says %q", c.err, body)
		}
	}
}
