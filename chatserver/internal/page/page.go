// Package page is what a browser gets from a pod: an HTML file, a style sheet and a few modules of JavaScript, all in the
// binary. Nothing is loaded from anywhere else, so the chat works on a network without internet. All URLs in the files are
// relative, so it also works under a path.
package page

import (
	"bytes"
	"compress/gzip"
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

//go:embed index.html chat.css *.js
var files embed.FS

// A Page serves the files. It never changes after New, so all methods may be called concurrently.
type Page struct {
	version string
	byPath  map[string]file
}

// A file is one answer, ready to be written.
type file struct {
	contentType, etag string
	plain, gzip       []byte
}

// New renders the page for the pod with this name.
func New(pod string) (*Page, error) {
	modules, err := fs.Glob(files, "*.js")
	if err != nil {
		return nil, err
	}
	p := &Page{byPath: map[string]file{}}
	all := sha256.New()
	// What fills lines of its own is a comment. They are half of a module's bytes, and stay in the repository.
	comments := regexp.MustCompile(`(?m)^[ \t]*(?:/\*(?:[^*]|\*+[^*/])*\*+/|//.*)\n`)
	for _, name := range append([]string{"chat.css"}, modules...) {
		source, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		contentType := "text/css; charset=utf-8"
		if strings.HasSuffix(name, ".js") {
			contentType, source = "text/javascript; charset=utf-8", comments.ReplaceAll(source, nil)
		}
		all.Write(source)
		p.byPath["/"+name] = newFile(contentType, source)
	}

	// html/template escapes the name for the place where it stands: a pod's name comes from the environment.
	index, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, err
	}
	all.Write([]byte(index.Tree.Root.String()))
	p.version = shortHash(all.Sum(nil))
	var rendered bytes.Buffer
	if err := index.Execute(&rendered, map[string]any{"Pod": pod, "Version": p.version, "Modules": modules}); err != nil {
		return nil, err
	}
	p.byPath["/"] = newFile("text/html; charset=utf-8", rendered.Bytes())
	return p, nil
}

func newFile(contentType string, plain []byte) file {
	sum := sha256.Sum256(plain)
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is a valid one, and a buffer takes everything
	w.Write(plain)
	w.Close()
	return file{contentType: contentType, etag: shortHash(sum[:]), plain: plain, gzip: packed.Bytes()}
}

// shortHash keeps 96 bits of a hash: far too many for an accident, and short enough to read aloud.
func shortHash(sum []byte) string { return base64.RawURLEncoding.EncodeToString(sum[:12]) }

// Version names this edition of the files. The rendered page carries it, and the welcome event of a pod does:
// a page that finds itself older than its pod says so, and goes on working.
func (p *Page) Version() string { return p.version }

// ServeHTTP answers for "/", "/chat.css" and the modules, and with 404 for everything else.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, found := p.byPath[r.URL.Path]
	if !found {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page can only be read: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	body, etag := f.plain, f.etag
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && r.Header.Get("Range") == "" {
		body, etag = f.gzip, f.etag+"-gzip" // a strong ETag names bytes
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", f.contentType)
	h.Set("ETag", `"`+etag+`"`)
	h.Set("Cache-Control", "no-cache") // keep it, but ask each time: after a roll-out no old script meets a new page
	h.Set("Content-Security-Policy", contentSecurityPolicy(r.Host))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	// ServeContent does HEAD, If-None-Match and ranges by the book. No time: pods started at different times are equal.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// contentSecurityPolicy allows this pod's own script, style and websocket, and an icon inside the page; nothing else.
//
// By the standard 'self' covers a websocket to the same host. Safari before 15.4 did not agree, so the host is named
// once more; only if no character of it has a meaning in a policy, because the name comes from the request. IPv6
// literals are not host sources there, so they are left out.
func contentSecurityPolicy(host string) string {
	connect := "'self'"
	plain := strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-:") == ""
	if host != "" && plain {
		connect += " ws://" + host + " wss://" + host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
