package room

import "net/http"

// Harden has every answer of a server that can only be read, errors included, say what browsers
// may do with it: nothing. A handler that serves a page says what its page needs.
func Harden(next http.Handler) http.Handler {
	const methods = "GET, HEAD, OPTIONS"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			next.ServeHTTP(w, r)
		case http.MethodOptions:
			h.Set("Allow", methods)
			w.WriteHeader(http.StatusNoContent)
		default:
			h.Set("Allow", methods)
			http.Error(w, "this server can only be read: use GET or HEAD", http.StatusMethodNotAllowed)
		}
	})
}
