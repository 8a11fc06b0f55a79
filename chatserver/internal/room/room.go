// Package room decides who may connect: how many in all and from one address, from which web
// sites, and how fast a client may talk.
package room

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Limits do not change after New.
type Limits struct {
	Connections    int            // at once; 0: no limit
	PerAddress     int            // of them, from one address; 0: no limit
	Origins        []string       // web sites besides the server's own whose pages may connect; "*": all
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
}

// AnyOrigin says whether pages of every web site may connect.
func (l Limits) AnyOrigin() bool { return slices.Contains(l.Origins, "*") }

// A Door is used by all requests at once.
type Door struct {
	limits Limits

	mu      sync.Mutex // guards the following
	closed  bool
	inside  int
	from    map[netip.Addr]int // only if there is a limit per address
	leaving sync.WaitGroup     // one for each that is inside; none is added once the door is closed
}

// New returns an open door.
func New(limits Limits) *Door {
	return &Door{limits: limits, from: make(map[netip.Addr]int)}
}

// A Refusal is why a client may not come in.
type Refusal struct {
	reason string // for a metric: one word
	status int    // of the answer
	text   string // for a person
}

func (r *Refusal) Error() string { return r.text }

// The reasons for a refusal.
var (
	ErrStopping   = &Refusal{"stopping", http.StatusServiceUnavailable, "the server is stopping"}
	ErrFull       = &Refusal{"full", http.StatusServiceUnavailable, "the server is full"}
	ErrPerAddress = &Refusal{"per_address", http.StatusServiceUnavailable, "too many connections from this address"}
	ErrOrigin     = &Refusal{"origin", http.StatusForbidden, "pages of other web sites may not connect; the server's ALLOWED_ORIGINS can name those that may"}
)

// retryAfter is when a client that was turned away may come again, in seconds.
const retryAfter = "5"

// Refuse answers a request that Enter has turned away with err, and returns the reason for a
// metric.
func Refuse(w http.ResponseWriter, err error) (reason string) {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		refusal = &Refusal{"other", http.StatusServiceUnavailable, err.Error()}
	}
	if refusal.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	http.Error(w, refusal.text, refusal.status)
	return refusal.reason
}

// Enter counts a client in, until the function that it returns is called, once.
func (d *Door) Enter(r *http.Request) (leave func(), err error) {
	if !d.CheckOrigin(r) {
		return nil, ErrOrigin
	}
	var addr netip.Addr
	if d.limits.PerAddress > 0 {
		addr = household(d.Address(r))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, ErrStopping
	case d.limits.Connections > 0 && d.inside >= d.limits.Connections:
		return nil, ErrFull
	case d.limits.PerAddress > 0 && d.from[addr] >= d.limits.PerAddress:
		return nil, ErrPerAddress
	}
	d.inside++
	d.leaving.Add(1)
	if d.limits.PerAddress > 0 {
		d.from[addr]++
	}
	return func() { d.leave(addr) }, nil
}

func (d *Door) leave(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	if d.limits.PerAddress > 0 {
		if d.from[addr]--; d.from[addr] == 0 {
			delete(d.from, addr)
		}
	}
	d.leaving.Done()
}

// Close refuses everybody from now on.
func (d *Door) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// Open says whether clients may come.
func (d *Door) Open() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.closed
}

// Wait returns when everybody has left. It is called after Close.
func (d *Door) Wait() { d.leaving.Wait() }

// household returns what is counted as one address: of IPv6 the first half, since whoever has one
// address has all that begin like it.
func household(addr netip.Addr) netip.Addr {
	if prefix, err := addr.Prefix(64); err == nil && addr.Is6() {
		return prefix.Addr()
	}
	return addr
}

// Address returns the address of the client: the peer's, or what the last trusted proxy has seen.
func (d *Door) Address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	// Each proxy appends whom it has seen, so the list is believed from its end, as long as the one
	// who said it is trusted.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && d.trusts(addr); i-- {
		seen, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		addr = seen
	}
	return addr
}

// parseHop reads an entry of X-Forwarded-For: an address, with which some proxies write the port.
func parseHop(hop string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr().Unmap(), true
	}
	addr, err := netip.ParseAddr(hop)
	return addr.Unmap(), err == nil
}

func (d *Door) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(d.limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// CheckOrigin says whether a page from the request's Origin may connect: one from this host, or one
// of the allowed web sites. Programs send no Origin, and are not stopped here: only browsers can
// be made to act for somebody else (RFC 6455 section 10.2).
func (d *Door) CheckOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 || d.limits.AnyOrigin() {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || u.Host == "" || len(origins) > 1 {
		return false // "null" is the origin of a page that hides where it comes from
	}
	host := withoutPort(u.Scheme, u.Host)
	return host == withoutPort(u.Scheme, r.Host) || slices.Contains(d.limits.Origins, u.Scheme+"://"+host)
}

// withoutPort returns host in lower case, and without the port that goes without saying.
func withoutPort(scheme, host string) string {
	host = strings.ToLower(host)
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// ParseOrigins reads a comma-separated list of web sites, such as https://chat.example.com.
func ParseOrigins(list string) ([]string, error) {
	var origins []string
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "*" {
			origins = append(origins, entry)
			continue
		}
		u, err := url.Parse(strings.TrimSuffix(entry, "/"))
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			return nil, fmt.Errorf("%q is not a web site: valid are https://host, http://host:port and *", entry)
		}
		origins = append(origins, u.Scheme+"://"+withoutPort(u.Scheme, u.Host))
	}
	return origins, nil
}

// ParseProxies reads a comma-separated list of addresses and networks, such as 10.0.0.0/8.
func ParseProxies(list string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		prefix, err := netip.ParsePrefix(entry)
		if addr, notAddr := netip.ParseAddr(entry); notAddr == nil {
			addr = addr.Unmap()
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is not an address: valid are 10.0.0.1, 10.0.0.0/8 and fd00::/8", entry)
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}
