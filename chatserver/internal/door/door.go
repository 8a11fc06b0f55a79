// Package door decides who may connect: how many in all and from one address, from which web
// sites, and how fast a client may talk.
package door

import (
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

// A Refusal is why a client may not come in now.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// The reasons for a refusal.
const (
	ErrStopping   Refusal = "the server is stopping"
	ErrFull       Refusal = "the server is full"
	ErrPerAddress Refusal = "too many connections from this address"
)

// Enter counts a client in, until the function that it returns is called, once.
func (d *Door) Enter(r *http.Request) (leave func(), err error) {
	var addr netip.Addr
	if d.limits.PerAddress > 0 {
		addr = d.Address(r)
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

// Address returns the address of the client: the peer's, or what the last trusted proxy has seen.
func (d *Door) Address(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	// Each proxy appends whom it has seen, so the list is believed from its end, as long as the one
	// who said it is trusted.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && d.trusts(addr); i-- {
		seen, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = seen.Unmap()
	}
	return addr
}

func (d *Door) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(d.limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// CheckOrigin says whether a page from the request's Origin may connect: one from this host, or one
// of the allowed web sites. Programs send no Origin, and are not stopped here: only browsers can
// be made to act for somebody else (RFC 6455 section 10.2).
func (d *Door) CheckOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(d.limits.Origins, "*") {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	return strings.EqualFold(u.Host, r.Host) || slices.ContainsFunc(d.limits.Origins, func(allowed string) bool {
		return strings.EqualFold(allowed, origin)
	})
}

// ParseOrigins reads a comma-separated list of web sites, such as https://chat.example.com.
func ParseOrigins(list string) ([]string, error) {
	var origins []string
	for origin := range strings.SplitSeq(list, ",") {
		origin = strings.TrimSuffix(strings.TrimSpace(origin), "/")
		if origin != "*" {
			u, err := url.Parse(origin)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
				return nil, fmt.Errorf("%q is not a web site: valid are https://host, http://host:port and *", origin)
			}
		}
		origins = append(origins, origin)
	}
	return origins, nil
}

// ParseProxies reads a comma-separated list of addresses and networks, such as 10.0.0.0/8.
func ParseProxies(list string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			addr, err := netip.ParseAddr(entry)
			if err != nil {
				return nil, fmt.Errorf("%q is not an address: valid are 10.0.0.1, 10.0.0.0/8 and fd00::/8", entry)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}
