package page_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/page"
)

// ask asks a page of the pod "pod-a".
func ask(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	p, err := page.New("pod-a")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/chat.css", 200, "text/css; charset=utf-8"},
		{"GET", "/chat.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/index.html", 404, "text/plain; charset=utf-8"},
		{"GET", "/page.go", 404, "text/plain; charset=utf-8"},
		{"GET", "//chat.js", 404, "text/plain; charset=utf-8"},
		{"POST", "/", 405, "text/plain; charset=utf-8"},
		{"OPTIONS", "/chat.js", 405, "text/plain; charset=utf-8"},
	} {
		r := ask(t, c.method, c.path)
		if r.StatusCode != c.status || r.Header.Get("Content-Type") != c.contentType {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, r.StatusCode, r.Header.Get("Content-Type"), c.status, c.contentType)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: a browser may guess the type", c.method, c.path)
		}
		if allow := r.Header.Get("Allow"); (c.status == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, allow)
		}
		if text := body(t, r); c.method == "HEAD" && text != "" {
			t.Errorf("HEAD has a body: %q", text)
		}
	}
}

func TestCaching(t *testing.T) {
	for _, path := range []string{"/", "/chat.css", "/chat.js"} {
		first := ask(t, "GET", path)
		etag := first.Header.Get("ETag")
		if !strings.HasPrefix(etag, `"`) || first.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: ETag %s, Cache-Control %s: want a strong ETag and no-cache", path, etag, first.Header.Get("Cache-Control"))
		}
		if again := ask(t, "GET", path, "If-None-Match", etag); again.StatusCode != 304 || body(t, again) != "" {
			t.Errorf("%s: %d for a page that is known, want 304", path, again.StatusCode)
		}
		if other := ask(t, "GET", path, "If-None-Match", `"other"`); other.StatusCode != 200 {
			t.Errorf("%s: %d for another page, want 200", path, other.StatusCode)
		}
	}
}

func TestPodName(t *testing.T) {
	p, err := page.New(`a<script>"&b`)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, want := range []string{
		`>Connected to Pod a&lt;script&gt;&#34;&amp;b</title>`,
		`>Chatting on a&lt;script&gt;&#34;&amp;b</h1>`,
		`<meta name="version" content="` + p.Version() + `">`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page lacks %s:\n%s", want, w.Body)
		}
	}
}

func TestSecurityPolicy(t *testing.T) {
	p, err := page.New("pod-a")
	if err != nil {
		t.Fatal(err)
	}
	for host, connect := range map[string]string{
		"localhost:8000":   "'self' ws://localhost:8000 wss://localhost:8000",
		"chat.example":     "'self' ws://chat.example wss://chat.example",
		"[::1]:8000":       "'self'",
		"a;script-src *":   "'self'",
		"a https://b.test": "'self'",
		"":                 "'self'",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		want := "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src " + connect +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if got := w.Header().Get("Content-Security-Policy"); got != want {
			t.Errorf("host %q:\n got %s\nwant %s", host, got, want)
		}
		for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}

// TestFiles holds the files to what is promised about them.
func TestFiles(t *testing.T) {
	total := 0
	for name, forbidden := range map[string]*regexp.Regexp{
		"index.html": regexp.MustCompile(`(?i)<style|style=|\son\w+=|<script>|https?://[^w]|["(]//`),
		"chat.css":   regexp.MustCompile(`(?i)url\(|@import`),
		"chat.js":    regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bimport\b|fetch\(|cssText`),
	} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		total += len(source)
		if found := forbidden.Find(source); found != nil {
			t.Errorf("%s has %q: no markup from text, nothing inline, nothing from elsewhere", name, found)
		}
	}
	if total >= 60_000 {
		t.Errorf("the three files have %d bytes, the promise is less than 60,000", total)
	}
}

// TestTextsInOnePlace: whoever translates the page changes one object in chat.js.
func TestTextsInOnePlace(t *testing.T) {
	html, err := os.ReadFile("index.html")
	if err != nil {
		t.Fatal(err)
	}
	bare := string(html)
	// These must be there before the script runs, or when it cannot.
	for _, allowed := range []string{`(?s)<!--.*?-->`, `(?s)<title.*?</title>`, `(?s)<h1.*?</h1>`, `(?s)<noscript.*?</noscript>`} {
		bare = regexp.MustCompile(allowed).ReplaceAllString(bare, "")
	}
	if found := regexp.MustCompile(`\s(?:aria-label|title|placeholder|alt)="[^"]*"`).FindString(bare); found != "" {
		t.Errorf("index.html says %s; it belongs to the texts in chat.js", found)
	}
	if text := strings.TrimSpace(regexp.MustCompile(`(?s)<.*?>`).ReplaceAllString(bare, "")); text != "" {
		t.Errorf("index.html says %q; it belongs to the texts in chat.js", text)
	}

	script, err := os.ReadFile("chat.js")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(script), "\n};\n")
	if !found {
		t.Fatal("chat.js does not begin with its texts")
	}
	code = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(code, "")
	for _, literal := range regexp.MustCompile(`"[^"\n]*"`).FindAllString(code, -1) {
		// Words for people have a capital letter or a space; identifiers of the platform have neither, or are listed.
		if regexp.MustCompile(`^"([A-Z].*|.* .*)"$`).MatchString(literal) && !regexp.MustCompile(`^"(Enter|ArrowUp|ArrowDown|noopener noreferrer|mine pending|state stored|\(hover: hover\)|\[data-.*\])"$`).MatchString(literal) {
			t.Errorf("chat.js says %s outside of its texts", literal)
		}
	}
}
