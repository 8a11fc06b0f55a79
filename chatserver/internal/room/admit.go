package room

import (
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"kafkachat/chatserver/internal/chat"
)

// machineNames returns the names of this machine for browsers in its network.
func machineNames() []string {
	host, err := os.Hostname()
	if err != nil {
		return nil
	}
	host = strings.ToLower(host)
	first, _, _ := strings.Cut(host, ".")
	return []string{host, first, first + ".local"}
}

// ownHost returns whether a request's host is this server. DNS rebinding points the name of another
// site at this machine; then the pages of that site could read and write the chat. An IP address
// cannot be pointed elsewhere. A program may send no host.
func (r *Room) ownHost(host string, hosts []string) bool {
	name := strings.ToLower(strings.TrimSuffix((&url.URL{Host: host}).Hostname(), "."))
	_, err := netip.ParseAddr(name)
	return host == "" || err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost") ||
		slices.Contains(r.names, name) || slices.Contains(hosts, name) || slices.Contains(hosts, "*")
}

// ownOrigin returns whether a page from the request's Origin may connect: one from this host, or
// from an allowed web site. Programs send no Origin. Only a browser can be made to act for another
// site (RFC 6455 section 10.2).
func (r *Room) ownOrigin(req *http.Request) bool {
	origins := req.Header.Values("Origin")
	if len(origins) == 0 || slices.Contains(r.Limits.Origins, "*") {
		return true
	}
	site, ok := Site(origins[0]) // "null", from a page that hides its origin, is not ok
	scheme, _, _ := strings.Cut(site, "://")
	own, _ := Site(scheme + "://" + req.Host)
	return ok && len(origins) == 1 && (site == own || slices.Contains(r.Limits.Origins, site))
}

// Site returns the origin of a web site as browsers spell it: in lower case, and without the
// scheme's own port. Ok is false if origin is anything else, or has more parts.
func Site(origin string) (site string, ok bool) {
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return "", false
	}
	usual, ok := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, usual), ok
}

// parseAddr reads an address with or without a port.
func parseAddr(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		withPort, _ := netip.ParseAddrPort(text) // on an error it is no address
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}

// address returns the address of the client: the peer's, or the address that the outermost trusted
// proxy has seen.
func (r *Room) address(req *http.Request) netip.Addr {
	addr := parseAddr(req.RemoteAddr)
	// Each proxy appends its peer, so the list is read from its end, as long as the sender of an
	// entry is trusted.
	hops := strings.Split(strings.Join(req.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		seen := parseAddr(strings.TrimSpace(hop))
		if !seen.IsValid() || !r.trusts(addr) {
			break
		}
		addr = seen
	}
	return addr
}

func (r *Room) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(r.Limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// person returns the name of the person that is signed in at the proxy. Ok is false if the request
// has no signed-in person. Without a UserHeader, the name is "" and ok is true.
func (r *Room) person(req *http.Request) (name string, ok bool) {
	if r.Limits.UserHeader == "" {
		return "", true
	}
	names := req.Header.Values(r.Limits.UserHeader)
	if len(names) != 1 || !r.trusts(parseAddr(req.RemoteAddr)) { // one of two headers is the client's own
		return "", false
	}
	// Google's Identity-Aware Proxy puts the name of a directory before the person's name.
	name = strings.TrimSpace(strings.TrimPrefix(names[0], "accounts.google.com:"))
	return name, name != "" && chat.CheckName(name) == nil
}
