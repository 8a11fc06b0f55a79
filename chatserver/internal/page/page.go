// Package page serves the page of the chat: an HTML file, a style sheet and a few JavaScript
// modules, all in the binary. The page loads nothing from elsewhere, so it needs no internet. All
// URLs are relative, so the page works under a path.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:embed index.html chat.css *.js
var files embed.FS

// A Page serves the files. It never changes after New, so all methods may be called concurrently.
type Page struct {
	version string
	byPath  map[string]file // answers ready to be written
}

type file struct {
	contentType, etag string
	plain, gzip       []byte
}

// New renders the page for the pod with this name. Files in the binary can always be read.
func New(pod string) *Page {
	p := &Page{byPath: map[string]file{}}
	all := sha256.New()
	var modules []string
	// Comments on lines of their own are half of a module's bytes. They are not served.
	comments := regexp.MustCompile(`(?m)^[ \t]*(?:/\*(?:[^*]|\*+[^*/])*\*+/|//.*)\n`)
	entries, _ := files.ReadDir(".")
	for _, entry := range entries {
		name, contentType := entry.Name(), "text/css; charset=utf-8"
		source, _ := files.ReadFile(name)
		all.Write(source)
		switch path.Ext(name) {
		case ".html":
			continue
		case ".js":
			contentType, source = "text/javascript; charset=utf-8", comments.ReplaceAll(source, nil)
			modules = append(modules, name)
		}
		p.byPath["/"+name] = newFile(contentType, source)
	}
	p.version = fmt.Sprintf("%x", all.Sum(nil)[:12])
	// html/template escapes the name for the place where it stands: a pod's name comes from the
	// environment.
	var rendered bytes.Buffer
	values := map[string]any{"Pod": pod, "Version": p.version, "Modules": modules}
	template.Must(template.ParseFS(files, "index.html")).Execute(&rendered, values)
	p.byPath["/"] = newFile("text/html; charset=utf-8", rendered.Bytes())
	return p
}

func newFile(contentType string, plain []byte) file {
	sum := sha256.Sum256(plain)
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is a valid one, and a buffer takes everything
	w.Write(plain)
	w.Close()
	return file{contentType: contentType, etag: fmt.Sprintf("%x", sum[:12]), plain: plain, gzip: packed.Bytes()}
}

// Version names this edition of the files. A page with another version than its pod's welcome tells
// the person, and goes on working.
func (p *Page) Version() string { return p.version }

// ServeHTTP answers GET and HEAD for "/", "/chat.css" and the modules, and with 404 for everything
// else.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, found := p.byPath[r.URL.Path]
	if !found {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
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
	// ServeContent handles HEAD, If-None-Match and ranges. It gets no time: pods that started at
	// different times are equal.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// contentSecurityPolicy allows this pod's own script, style and websocket, and an icon inside the
// page; nothing else. By the standard 'self' covers a websocket to the same host. Safari before
// 15.4 did not agree, so the policy names the host, too. The host comes from the request, so it is
// named only if none of its characters has a meaning in a policy. IPv6 literals are not valid host
// sources, so they are left out.
func contentSecurityPolicy(host string) string {
	connect := "'self'"
	if host != "" && strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-:") == "" {
		connect += " ws://" + host + " wss://" + host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
