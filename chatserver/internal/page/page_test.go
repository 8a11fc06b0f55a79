package page_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/page"
)

// ask asks a page of the pod "pod-a", and returns the answer with its body.
func ask(t *testing.T, method, host, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	page.New(`pod-a<script>"&b`).ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

// TestAnswers: what there is, is kept and asked for again, and comes compressed to who can read gzip.
func TestAnswers(t *testing.T) {
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/chat.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8", "/client.js": "text/javascript; charset=utf-8",
	} {
		plain, text := ask(t, "GET", "", path)
		h, etag := plain.Header, plain.Header.Get("ETag")
		if plain.StatusCode != 200 || h.Get("Content-Type") != contentType || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(etag, `"`) || h.Get("Cache-Control") != "no-cache" || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d, headers %v", path, plain.StatusCode, h)
		}
		if again, body := ask(t, "GET", "", path, "If-None-Match", etag); again.StatusCode != 304 || body != "" {
			t.Errorf("%s: %d for a page that is known, want 304", path, again.StatusCode)
		}
		if other, _ := ask(t, "GET", "", path, "If-None-Match", `"other"`); other.StatusCode != 200 {
			t.Errorf("%s: %d for another page, want 200", path, other.StatusCode)
		}
		if head, body := ask(t, "HEAD", "", path); head.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: %d, body %q", path, head.StatusCode, body)
		}
		packed, bytes := ask(t, "GET", "", path, "Accept-Encoding", "br, gzip")
		reader, err := gzip.NewReader(strings.NewReader(bytes))
		if err != nil || packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("ETag") == etag {
			t.Fatalf("%s, compressed: %v, headers %v", path, err, packed.Header)
		}
		if unpacked, err := io.ReadAll(reader); err != nil || string(unpacked) != text {
			t.Errorf("%s, compressed: %v, or another text", path, err)
		}
	}
	for _, path := range []string{"/index.html", "/page.go", "//page.js"} {
		if r, _ := ask(t, "GET", "", path); r.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, r.StatusCode)
		}
	}
	_, index := ask(t, "GET", "", "/")
	for _, want := range []string{
		`>Connected to Pod pod-a&lt;script&gt;&#34;&amp;b</title>`,
		`>Chatting on pod-a&lt;script&gt;&#34;&amp;b</h1>`,
		`<meta name="version" content="` + page.New("another").Version() + `">`,
	} {
		if !strings.Contains(index, want) {
			t.Errorf("the page lacks %s:\n%s", want, index)
		}
	}
}

func TestSecurityPolicy(t *testing.T) {
	for host, connect := range map[string]string{
		"localhost:8000":   "'self' ws://localhost:8000 wss://localhost:8000",
		"chat.example":     "'self' ws://chat.example wss://chat.example",
		"[::1]:8000":       "'self'",
		"a;script-src *":   "'self'",
		"a https://b.test": "'self'",
		"":                 "'self'",
	} {
		r, _ := ask(t, "GET", host, "/")
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src " + connect +
				"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("host %q: %s is\n%s, want\n%s", host, name, got, want)
			}
		}
	}
}

// sources are the files of the page, by name.
func sources(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.js")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range append(names, "index.html", "chat.css") {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(source)
	}
	return all
}

// TestFiles holds the files to what is promised about them.
func TestFiles(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|style=|\son\w+=|<script>|https?://[^w]|["(]/[^>]`),
		".css":  regexp.MustCompile(`(?i)url\(|@import`),
		".js":   regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bimport\(|cssText|from "[^.]`),
	}
	total, modules := 0, 0
	_, preloads := ask(t, "GET", "", "/")
	for name, source := range sources(t) {
		if found := forbidden[path.Ext(name)].FindString(source); found != "" {
			t.Errorf("%s has %q: no markup from text, nothing inline, nothing from elsewhere, no absolute path", name, found)
		}
		url := "/" + strings.TrimPrefix(name, "index.html")
		_, packed := ask(t, "GET", "", url, "Accept-Encoding", "gzip")
		total += len(packed)
		if path.Ext(name) != ".js" {
			continue
		}
		modules++
		if lines := strings.Count(source, "\n"); lines > 400 {
			t.Errorf("%s has %d lines, the promise is at most 400", name, lines)
		}
		if !strings.Contains(preloads, `<link rel="modulepreload" href="`+name+`">`) {
			t.Errorf("%s is not preloaded", name)
		}
		if _, got := ask(t, "GET", "", url); strings.Contains(got, "@param") || !strings.Contains(got, "export ") && name != "page.js" {
			t.Errorf("%s is served with its comments, or without its code:\n%s", name, got)
		}
	}
	if total >= 30_000 || modules > 8 {
		t.Errorf("%d modules, %d bytes in all, compressed: the promise is at most 8, and less than 30,000", modules, total)
	}
}

// TestNoDeadWordsOrRules: each word and each rule of the style sheet is used.
func TestNoDeadWordsOrRules(t *testing.T) {
	files := sources(t)
	var code strings.Builder
	for name, source := range files {
		if name != "words.js" && name != "chat.css" {
			code.WriteString(source)
		}
	}
	for _, word := range regexp.MustCompile(`(?m)^\t(\w+):`).FindAllStringSubmatch(files["words.js"], -1) {
		byKey := strings.Contains("connecting replaying live closed reset fresh", word[1]) // words[phase], words[kind]
		if !byKey && !regexp.MustCompile(`words\.`+word[1]+`\b|data-\w+="`+word[1]+`"`).MatchString(code.String()) {
			t.Errorf("the word %s is never shown", word[1])
		}
	}
	rules := regexp.MustCompile(`\{[^{}]*\}`).ReplaceAllString(files["chat.css"], "{}")
	for _, name := range regexp.MustCompile(`[.#]([a-z][\w-]*)`).FindAllStringSubmatch(rules, -1) {
		if !regexp.MustCompile(`["\x60 ]` + name[1] + `["\x60 ]|classList\.\w+\("` + name[1]).MatchString(code.String()) {
			t.Errorf("nothing is %s", name[0])
		}
	}
}
