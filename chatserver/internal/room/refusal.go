package room

import (
	"fmt"
	"net/http"
	"time"
)

// A refusal is a reason to refuse a request.
type refusal struct {
	reason string // one word, for metric and log
	status int    // of the answer
	text   string // of the answer
	change string // for the operator: the change that would admit the client; "": none
}

func (r *refusal) Error() string { return r.text }

var (
	refusedStopping = &refusal{"stopping", http.StatusServiceUnavailable, "the server is stopping", ""}
	refusedFull     = &refusal{"full", http.StatusServiceUnavailable, "the server is full",
		"run more pods, or raise MAX_CONNECTIONS (and the process's limit of open files, ulimit -n)"}
	refusedAddress = &refusal{"per_address", http.StatusServiceUnavailable, "too many connections from this address",
		"raise MAX_CONNECTIONS_PER_ADDRESS; if the address is the address of a proxy, add it to TRUSTED_PROXIES"}
	refusedOrigin = &refusal{"origin", http.StatusForbidden, "pages of other web sites may not connect; the server's ALLOWED_ORIGINS can allow them",
		"if people open this chat at origin, a proxy replaces the Host header: make the proxy pass on the browser's (nginx: proxy_set_header Host $http_host); if origin is another web site that may connect, add it to ALLOWED_ORIGINS"}
	refusedHost = &refusal{"host", http.StatusForbidden, "this server does not have that name; its ALLOWED_HOSTS can add names",
		"if host is a name of this server, add it to ALLOWED_HOSTS"}
	refusedUser = &refusal{"user", http.StatusUnauthorized, "please sign in at the proxy in front of this server",
		"the proxy must be one of TRUSTED_PROXIES, and must set USER_HEADER exactly once, to a name of 1 to 64 bytes"}
	refusedUpgrade = &refusal{"handshake", http.StatusBadRequest, "the websocket's Upgrade header is missing: a proxy has dropped it",
		"make the proxy pass on the upgrade (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade)"}
)

// handshakeFault returns why a request is not a websocket handshake. A Sec-WebSocket-Key without
// Upgrade comes from a proxy that does not know websockets.
func handshakeFault(req *http.Request, status int, reason error) *refusal {
	if req.Header.Get("Sec-WebSocket-Key") != "" && req.Header.Get("Upgrade") == "" {
		return refusedUpgrade
	}
	return &refusal{"handshake", status, reason.Error() + " (this address is the chat's websocket; the page is at /)", ""}
}

// refuse answers a refused request. A reason that the operator can change is logged, at most once a
// minute.
func (r *Room) refuse(w http.ResponseWriter, req *http.Request, why *refusal) error {
	r.Metrics.Refused.WithLabelValues(why.reason).Inc()
	r.mu.Lock()
	log := why.change != "" && time.Since(r.logged[why]) > time.Minute
	if log {
		r.logged[why] = time.Now()
	}
	r.mu.Unlock()
	if log {
		r.Log.Warn("clients are refused", "reason", why.reason, "host", fmt.Sprintf("%.100s", req.Host),
			"origin", fmt.Sprintf("%.100s", req.Header.Get("Origin")), "remote", req.RemoteAddr, "change", why.change)
	}
	if why.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5") // seconds
	}
	http.Error(w, why.text, why.status)
	return why
}
