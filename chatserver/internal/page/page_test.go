package page_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/page"
)

// ask asks the page of a pod, and returns the answer with its body.
func ask(method, host, path string, header ...string) (*http.Response, string) {
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
		"/": "text/html; charset=utf-8", "/chat.css": "text/css; charset=utf-8", "/client.js": "text/javascript; charset=utf-8",
	} {
		plain, text := ask("GET", "", path)
		h, etag := plain.Header, plain.Header.Get("ETag")
		if plain.StatusCode != 200 || h.Get("Content-Type") != contentType || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(etag, `"`) || h.Get("Cache-Control") != "no-cache" || h.Get("Vary") != "Accept-Encoding" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: %d, headers %v", path, plain.StatusCode, h)
		}
		if again, body := ask("HEAD", "", path, "If-None-Match", etag); again.StatusCode != 304 || body != "" {
			t.Errorf("%s: %d for a page that is known, want 304", path, again.StatusCode)
		}
		packed, body := ask("GET", "", path, "Accept-Encoding", "br, gzip", "If-None-Match", etag)
		reader, err := gzip.NewReader(strings.NewReader(body))
		if err != nil || packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("ETag") == etag {
			t.Fatalf("%s, compressed: %v, headers %v", path, err, packed.Header)
		}
		if unpacked, err := io.ReadAll(reader); err != nil || string(unpacked) != text {
			t.Errorf("%s, compressed: %v, or another text", path, err)
		}
	}
	if r, _ := ask("GET", "", "/index.html"); r.StatusCode != 404 {
		t.Errorf("/index.html: %d, want 404", r.StatusCode)
	}
	_, index := ask("GET", "", "/")
	version := `<meta name="version" content="` + page.New("another").Version() + `">`
	if strings.Count(index, `pod-a&lt;script&gt;&#34;&amp;b</`) != 2 || !strings.Contains(index, version) {
		t.Errorf("the page lacks %s, or the pod's name in title and heading:\n%s", version, index)
	}
}

func TestSecurityPolicy(t *testing.T) {
	for host, connect := range map[string]string{
		"localhost:8000": "'self' ws://localhost:8000 wss://localhost:8000",
		"[::1]:8000":     "'self'",
		"a;script-src *": "'self'",
		"":               "'self'",
	} {
		r, _ := ask("GET", host, "/")
		want := "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src " + connect +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if got := r.Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("host %q: the policy is\n%s, want\n%s", host, got, want)
		}
	}
}

// TestFiles holds the files to what is promised about them.
func TestFiles(t *testing.T) {
	markup := regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|cssText`)
	total := 0
	_, preloads := ask("GET", "", "/")
	modules, _ := filepath.Glob("*.js")
	for _, name := range append(modules, "index.html", "chat.css") {
		source, err := os.ReadFile(name)
		if found := markup.Find(source); err != nil || found != nil {
			t.Errorf("%s makes markup from text: %s %v", name, found, err)
		}
		url := "/" + strings.TrimPrefix(name, "index.html")
		_, packed := ask("GET", "", url, "Accept-Encoding", "gzip")
		total += len(packed)
		if path.Ext(name) != ".js" {
			continue
		}
		_, served := ask("GET", "", url)
		if strings.Contains(served, "@param") || !strings.Contains(served, "export ") && name != "page.js" || bytes.Count(source, []byte("\n")) > 400 ||
			!strings.Contains(preloads, `<link rel="modulepreload" href="`+name+`">`) {
			t.Errorf("%s is not preloaded, is served with its comments or without its code, or has more than 400 lines:\n%s", name, served)
		}
	}
	if total >= 30_000 || len(modules) > 8 {
		t.Errorf("%d modules, %d bytes in all, compressed: the promise is at most 8, and less than 30,000", len(modules), total)
	}
}

// TestClientScript plays testdata/client.txt with client.js, in Node. The Go client of the fault suite plays it too.
func TestClientScript(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no Node found: install nodejs to run client.js against the script")
	}
	if out, err := exec.Command(node, "testdata/client_test.mjs").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
