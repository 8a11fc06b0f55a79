package room

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"kafkachat/chatserver/internal/chat"
)

// AnyOrigin says whether pages of every web site may connect.
func (l Limits) AnyOrigin() bool { return slices.Contains(l.Origins, "*") }

// machineNames returns what this machine is called in the browsers of its network.
func machineNames() []string {
	host, err := os.Hostname()
	if err != nil {
		return nil
	}
	host = strings.ToLower(host)
	first, _, _ := strings.Cut(host, ".")
	return []string{host, first, first + ".local"}
}

// ownHost says whether host, of a request, is this server. A page of a site whose name has been pointed at this
// machine, which is called DNS rebinding, would read and write the chat as its own: its host is that name.
// IP addresses cannot be pointed anywhere, and programs may name no host.
func (r *Room) ownHost(host string, hosts []string) bool {
	name := strings.ToLower(strings.TrimSuffix((&url.URL{Host: host}).Hostname(), "."))
	_, err := netip.ParseAddr(name)
	return host == "" || err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost") ||
		slices.Contains(r.names, name) || slices.Contains(hosts, name) || slices.Contains(hosts, "*")
}

// ownOrigin says whether a page from the request's Origin may connect: one from this host, or one
// of the allowed web sites. Programs send no Origin, and are not stopped here: only browsers can
// be made to act for somebody else (RFC 6455 section 10.2).
func (r *Room) ownOrigin(req *http.Request) bool {
	origins := req.Header.Values("Origin")
	if len(origins) == 0 || r.Limits.AnyOrigin() {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || u.Host == "" || len(origins) > 1 {
		return false // "null" is the origin of a page that hides where it comes from
	}
	host := withoutPort(u.Scheme, u.Host)
	return host == withoutPort(u.Scheme, req.Host) || slices.Contains(r.Limits.Origins, u.Scheme+"://"+host)
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

// peer returns the address of the other end of the request's connection.
func peer(req *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// address returns the address of the client: the peer's, or what the last trusted proxy has seen.
func (r *Room) address(req *http.Request) netip.Addr {
	addr := peer(req)
	// Each proxy appends whom it has seen, so the list is believed from its end, as long as the one
	// who said it is trusted.
	hops := strings.Split(strings.Join(req.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && r.trusts(addr); i-- {
		seen, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if withPort, err2 := netip.ParseAddrPort(strings.TrimSpace(hops[i])); err2 == nil {
			seen, err = withPort.Addr(), nil // some proxies write the port too
		}
		if err != nil {
			break
		}
		addr = seen.Unmap()
	}
	return addr
}

func (r *Room) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(r.Limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// network returns what is counted as one address: of IPv6 the first half, since whoever has one
// address has all that begin like it.
func network(addr netip.Addr) netip.Addr {
	if prefix, err := addr.Prefix(64); err == nil && addr.Is6() {
		return prefix.Addr()
	}
	return addr
}

// person returns who has signed in at the proxy through which the request came, "" if nobody has to.
func (r *Room) person(req *http.Request) (string, *refusal) {
	if r.Limits.UserHeader == "" {
		return "", nil
	}
	names := req.Header.Values(r.Limits.UserHeader)
	if len(names) != 1 || !r.trusts(peer(req)) { // of two, one is the client's own
		return "", refusedUser
	}
	// Google's Identity-Aware Proxy says which of its directories knows the person.
	name := strings.TrimSpace(strings.TrimPrefix(names[0], "accounts.google.com:"))
	if name == "" || chat.CheckName(name) != nil {
		return "", refusedUser
	}
	return name, nil
}

// ParseHosts reads a comma-separated list of names of this server, such as chat.example.com.
func ParseHosts(list string) ([]string, error) {
	return parse(list, func(entry string) (string, error) {
		entry = strings.ToLower(entry)
		if entry != "*" && (entry == "" || strings.Trim(entry, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "") {
			return "", fmt.Errorf("%q is not a name: valid are chat.example.com, without a port, and *", entry)
		}
		return entry, nil
	})
}

// ParseOrigins reads a comma-separated list of web sites, such as https://chat.example.com.
func ParseOrigins(list string) ([]string, error) {
	return parse(list, func(entry string) (string, error) {
		if entry == "*" {
			return entry, nil
		}
		u, err := url.Parse(strings.TrimSuffix(entry, "/"))
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			return "", fmt.Errorf("%q is not a web site: valid are https://host, http://host:port and *", entry)
		}
		return u.Scheme + "://" + withoutPort(u.Scheme, u.Host), nil
	})
}

// ParseProxies reads a comma-separated list of addresses and networks, such as 10.0.0.0/8.
func ParseProxies(list string) ([]netip.Prefix, error) {
	return parse(list, func(entry string) (netip.Prefix, error) {
		prefix, err := netip.ParsePrefix(entry)
		if addr, notAddr := netip.ParseAddr(entry); notAddr == nil {
			addr = addr.Unmap()
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || prefix.Addr().Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%q is not an address: valid are 10.0.0.1, 10.0.0.0/8 and fd00::/8", entry)
		}
		return prefix.Masked(), nil
	})
}

// parse reads a comma-separated list.
func parse[T any](list string, entry func(string) (T, error)) (all []T, err error) {
	for text := range strings.SplitSeq(list, ",") {
		one, err := entry(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
