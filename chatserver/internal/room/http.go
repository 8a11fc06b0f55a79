package room

import (
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Server returns the server of the clients.
func (r *Room) Server(handler http.Handler) *http.Server {
	s := r.server(r.guard(handler, r.Limits.Hosts, true), &r.plain)
	s.WriteTimeout = 30 * time.Second // of one answer; a websocket has no more to do with that
	s.IdleTimeout = 30 * time.Second
	if len(r.Limits.TrustedProxies) > 0 {
		s.IdleTimeout = 650 * time.Second // longer than a load balancer keeps its connections, 600 s
	}
	return s
}

// AdminServer returns the server of the metrics and the profiler. It answers to the names that the
// settings spell out, so "*" is none of them.
func (r *Room) AdminServer(handler http.Handler) *http.Server {
	hosts := slices.DeleteFunc(slices.Clone(r.Limits.Hosts), func(h string) bool { return h == "*" })
	return r.server(r.guard(handler, hosts, false), &plain{limit: 16})
}

func (r *Room) server(handler http.Handler, p *plain) *http.Server {
	return &http.Server{
		Handler:        handler,
		ConnState:      p.note,
		ReadTimeout:    10 * time.Second, // of one request
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(r.Log.Handler(), slog.LevelError), // no more sockets, a handler that panics
	}
}

// guard refuses requests for hosts that this server is not, and of people who have not signed in, and lets
// every answer say what browsers may do with it: nothing. A handler that serves a page says what its page needs.
func (r *Room) guard(next http.Handler, hosts []string, signIn bool) http.Handler {
	const methods = "GET, HEAD, OPTIONS"
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if probe := req.URL.Path == "/healthz" || req.URL.Path == "/readyz"; !probe {
			if !r.ownHost(req.Host, hosts) {
				r.refuse(w, req, refusedHost)
				return
			}
			if _, refused := r.person(req); signIn && refused != nil {
				r.refuse(w, req, refused)
				return
			}
		}
		switch req.Method {
		case http.MethodGet, http.MethodHead:
			next.ServeHTTP(w, req)
		case http.MethodOptions:
			h.Set("Allow", methods)
			w.WriteHeader(http.StatusNoContent)
		default:
			h.Set("Allow", methods)
			http.Error(w, "this server can only be read: use GET or HEAD", http.StatusMethodNotAllowed)
		}
	})
}

// plain bounds the HTTP connections that are not websockets. For one too many the one is closed that has been
// idle longest, or, if none is idle, the oldest: a request takes milliseconds, so that one is stuck. Many who
// come at once, after a pod has gone, are no fault: within newFor twice as many may be there.
type plain struct {
	limit int // static

	mu    sync.Mutex // guards the following
	conns map[net.Conn]use
}

// newFor is how long a connection may take to say what it wants.
const newFor = time.Second

type use struct {
	idle  bool
	since time.Time
}

// note is the server's ConnState.
func (p *plain) note(c net.Conn, state http.ConnState) {
	if victim := p.count(c, state); victim != nil {
		victim.Close()
	}
}

func (p *plain) count(c net.Conn, state http.ConnState) (victim net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		if p.conns == nil {
			p.conns = make(map[net.Conn]use)
		}
		if len(p.conns) >= p.limit {
			if v := p.victim(); len(p.conns) >= 2*p.limit || p.conns[v].idle || time.Since(p.conns[v].since) > newFor {
				victim = v
				delete(p.conns, v)
			}
		}
		p.conns[c] = use{since: time.Now()}
	case http.StateActive, http.StateIdle:
		if _, counted := p.conns[c]; counted {
			p.conns[c] = use{state == http.StateIdle, time.Now()}
		}
	case http.StateHijacked, http.StateClosed:
		delete(p.conns, c)
	}
	return victim
}

func (p *plain) victim() (victim net.Conn) {
	for c, u := range p.conns {
		if v := p.conns[victim]; victim == nil || u.idle && !v.idle || u.idle == v.idle && u.since.Before(v.since) {
			victim = c
		}
	}
	return victim
}
