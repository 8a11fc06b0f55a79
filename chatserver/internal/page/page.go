// Package page is what a browser gets from a pod: one HTML file, one style sheet and one script, all three in the
// binary. Nothing is loaded from anywhere else, so the chat works on a network without internet.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"
)

//go:embed index.html chat.css chat.js
var files embed.FS

// A Page serves the three files. It never changes after New, so all methods may be called concurrently.
type Page struct {
	version string
	byPath  map[string]file
}

// A file is one answer, ready to be written.
type file struct {
	contentType string
	etag        string
	body        []byte
}

// New renders the page for the pod with this name.
func New(pod string) (*Page, error) {
	sources := map[string][]byte{}
	all := sha256.New()
	for _, name := range []string{"index.html", "chat.css", "chat.js"} {
		source, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sources[name] = source
		all.Write(source)
	}
	version := shortHash(all.Sum(nil))

	// html/template escapes the name for the place where it stands: a pod's name comes from the environment.
	index, err := template.New("index.html").Parse(string(sources["index.html"]))
	if err != nil {
		return nil, err
	}
	var rendered bytes.Buffer
	if err := index.Execute(&rendered, struct{ Pod, Version string }{pod, version}); err != nil {
		return nil, err
	}

	return &Page{version: version, byPath: map[string]file{
		"/":         newFile("text/html; charset=utf-8", rendered.Bytes()),
		"/chat.css": newFile("text/css; charset=utf-8", sources["chat.css"]),
		"/chat.js":  newFile("text/javascript; charset=utf-8", sources["chat.js"]),
	}}, nil
}

func newFile(contentType string, body []byte) file {
	sum := sha256.Sum256(body)
	return file{contentType: contentType, etag: `"` + shortHash(sum[:]) + `"`, body: body}
}

// shortHash keeps 96 bits of a hash: far too many for an accident, and short enough to read aloud.
func shortHash(sum []byte) string { return base64.RawURLEncoding.EncodeToString(sum[:12]) }

// Version names this edition of the three files. The rendered page carries it, and the welcome event of a pod does:
// a page that finds itself older than its pod says so, and goes on working.
func (p *Page) Version() string { return p.version }

// ServeHTTP answers for "/", "/chat.css" and "/chat.js", and with 404 for everything else.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, found := p.byPath[r.URL.Path]
	if !found {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this page can only be read: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}

	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache") // keep it, but ask each time: after a roll-out no old script meets a new page
	h.Set("Content-Security-Policy", contentSecurityPolicy(r.Host))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	// ServeContent does HEAD, If-None-Match and ranges by the book. No time: pods started at different times are equal.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
}

// contentSecurityPolicy allows this pod's own script, style and websocket, and an icon inside the page; nothing else.
//
// By the standard 'self' covers a websocket to the same host. Safari before 15.4 did not agree, so the host is named
// once more; only if it is a plain host and port, because the name comes from the request.
func contentSecurityPolicy(host string) string {
	connect := "'self'"
	if plainHost.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src data:",
		"connect-src " + connect,
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// plainHost: no character that has a meaning in a policy. IPv6 literals are not host sources there, so they are left out.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$`)
