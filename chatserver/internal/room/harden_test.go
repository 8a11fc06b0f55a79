package room_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"kafkachat/chatserver/internal/room"
)

func TestHarden(t *testing.T) {
	t.Parallel()
	const own = "default-src 'self'"
	handler := room.Harden(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Security-Policy", own)
			return
		}
		http.NotFound(w, r)
	}))
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/page", 200, ""},
		{"HEAD", "/page", 200, ""},
		{"GET", "/nothing", 404, ""},
		{"OPTIONS", "/page", 204, "GET, HEAD, OPTIONS"},
		{"POST", "/page", 405, "GET, HEAD, OPTIONS"},
		{"TRACE", "/nothing", 405, "GET, HEAD, OPTIONS"},
		{"SPAM", "/page", 405, "GET, HEAD, OPTIONS"},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		h := w.Header()
		if w.Code != c.status || h.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allowed are %q", c.method, c.path, w.Code, h.Get("Allow"))
		}
		want := "default-src 'none'; frame-ancestors 'none'"
		if c.status == 200 {
			want = own
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Security-Policy") != want {
			t.Errorf("%s %s: %v", c.method, c.path, h)
		}
	}
}
