package room

import (
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Server returns the HTTP server for clients.
func (r *Room) Server(handler http.Handler) *http.Server {
	s := r.server(r.guard(handler, r.Limits.Hosts, true), r.plain)
	s.WriteTimeout = 30 * time.Second // of one answer; a websocket is not affected
	s.IdleTimeout = 30 * time.Second
	if len(r.Limits.TrustedProxies) > 0 {
		s.IdleTimeout = 650 * time.Second // longer than a load balancer keeps its connections, 600 s
	}
	return s
}

// AdminServer returns the server of the metrics and the profiler. In its hosts "*" has no effect.
func (r *Room) AdminServer(handler http.Handler) *http.Server {
	hosts := slices.DeleteFunc(slices.Clone(r.Limits.Hosts), func(h string) bool { return h == "*" })
	return r.server(r.guard(handler, hosts, false), 16)
}

func (r *Room) server(handler http.Handler, connections int) *http.Server {
	p := plain{limit: connections, since: make(map[net.Conn]time.Time)}
	return &http.Server{
		Handler:        handler,
		ConnState:      p.note,
		ReadTimeout:    10 * time.Second, // of one request
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(r.Log.Handler(), slog.LevelError), // for example: no more sockets, or a handler that panics
	}
}

// guard refuses requests for other hosts and, with signIn, requests without a signed-in person. The
// headers allow browsers to do nothing with an answer. A handler that serves a page allows what its
// page needs.
func (r *Room) guard(next http.Handler, hosts []string, signIn bool) http.Handler {
	const methods = "GET, HEAD, OPTIONS"
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		_, known := r.person(req)
		switch probe := req.URL.Path == "/healthz" || req.URL.Path == "/readyz"; {
		case !probe && !r.ownHost(req.Host, hosts):
			r.refuse(w, req, refusedHost)
		case !probe && signIn && !known:
			r.refuse(w, req, refusedUser)
		case req.Method == http.MethodGet || req.Method == http.MethodHead:
			next.ServeHTTP(w, req)
		case req.Method == http.MethodOptions:
			h.Set("Allow", methods)
			w.WriteHeader(http.StatusNoContent)
		default:
			h.Set("Allow", methods)
			http.Error(w, "this server accepts only GET and HEAD", http.StatusMethodNotAllowed)
		}
	})
}

// plain bounds the HTTP connections that are not websockets. Above the limit, the connection that
// is idle for longest is closed. If none is idle, the oldest is closed: a request takes
// milliseconds, so the oldest is stuck. When another pod has gone, many of its clients connect at
// once. So twice the limit is allowed while all connections are younger than a second.
type plain struct {
	limit int

	mu    sync.Mutex             // guards the following
	since map[net.Conn]time.Time // time of the last change of state, minus an hour for an idle connection
}

// note is the server's ConnState.
func (p *plain) note(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, counted := p.since[c]
	if state == http.StateNew && len(p.since) >= p.limit {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.since)), func(a, b net.Conn) int { return p.since[a].Compare(p.since[b]) })
		if len(p.since) >= 2*p.limit || time.Since(p.since[oldest]) > time.Second {
			delete(p.since, oldest)
			oldest.Close()
		}
	}
	switch {
	case state == http.StateNew, state == http.StateActive && counted:
		p.since[c] = time.Now()
	case state == http.StateIdle && counted:
		p.since[c] = time.Now().Add(-time.Hour)
	default:
		delete(p.since, c)
	}
}
