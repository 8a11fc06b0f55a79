// Package browsertest lets a test use the page as a person does: in a real Chromium, with mouse and keyboard.
//
// Nothing here sleeps. Wait asks the page again and again until a condition holds, and says what it waited for when
// it does not.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	// patience bounds every wait. It is long because the cores of a CI machine are busy; a passing test never uses it up.
	patience = 20 * time.Second
	// startPatience bounds the start of a browser, whose first run on a cold disk is slow.
	startPatience = 90 * time.Second
)

// A Browser is a Chromium with a profile of its own. Its tabs share storage and cookies, as a person's do.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// Start starts a Chromium that ends with the test. Without one on this machine the test is skipped, except in CI.
func Start(t testing.TB) *Browser {
	t.Helper()
	var shared Shared
	t.Cleanup(shared.Stop)
	return shared.For(t)
}

// Shared is one Chromium for all tests of a package. Each gets a profile of its own, which is as good as a new browser
// and ten times faster. The zero value is ready; TestMain stops it.
type Shared struct {
	once sync.Once
	path string
	err  error
	ctx  context.Context
	stop func()
}

// For returns a browser that no other test has seen, and that ends with the test. The first call starts the process.
func (s *Shared) For(t testing.TB) *Browser {
	t.Helper()
	s.once.Do(s.start)
	switch {
	case s.path == "" && os.Getenv("CI") == "true":
		t.Fatal("no Chromium found, and CI must not skip: install the package chromium")
	case s.path == "":
		t.Skip("no Chromium found: install chromium or Google Chrome to run the tests of the page")
	case s.err != nil:
		t.Fatalf("start %s: %v", s.path, s.err)
	}
	ctx, cancel := chromedp.NewContext(s.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a profile: %v", err)
	}
	return &Browser{t: t, ctx: ctx}
}

// Stop ends the process, and waits for it.
func (s *Shared) Stop() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *Shared) start() {
	if s.path = find(); s.path == "" {
		return
	}
	// The switches keep Chromium silent: a browser that looks for updates is noise in a test, and fails offline.
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(s.path),
		chromedp.NoSandbox, // in a container there is nothing that the sandbox could be made of; it only visits the test's own server
		chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("blink-settings", "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"), // a mouse
		chromedp.WindowSize(1280, 800),
		chromedp.WSURLReadTimeout(startPatience),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	s.ctx = ctx
	s.stop = func() {
		closeBrowser()
		stop() // waits for the process, and removes its profile
	}
	s.err = chromedp.Do(ctx)
}

// find returns the path of a Chromium, or "".
func find() string {
	names := []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
		filepath.Join(os.Getenv("ProgramFiles"), `Google\Chrome\Application\chrome.exe`),
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Open opens a new tab and waits until the page is loaded. The tab fails the test if its script throws, or if the
// page's security policy forbids something that the page itself tried.
func (b *Browser) Open(url string) *Tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	tab := &Tab{t: b.t, ctx: ctx, cancel: cancel}
	b.t.Cleanup(func() {
		cancel()
		for _, complaint := range tab.complaints() {
			b.t.Errorf("the page at %s complained: %s", url, complaint)
		}
	})
	listening := chromedp.Listen(ctx, func(event any) {
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			tab.complain((&chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails}).Error())
		case *log.EventEntryAdded:
			if event.Entry.Source == log.EntrySourceSecurity {
				tab.complain(event.Entry.Text)
			}
		}
	})
	if listening != nil {
		b.t.Fatalf("open a tab: %v", listening)
	}
	tab.focus(true)
	tab.do("open "+url, chromedp.Navigate(url))
	return tab
}

// A Tab is one page. Its methods fail the test when they cannot do what they say.
type Tab struct {
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc

	mu  sync.Mutex
	bad []string // guarded by mu
}

func (tab *Tab) complain(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.bad = append(tab.bad, text)
}

func (tab *Tab) complaints() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.bad
}

// do does the steps, within patience.
func (tab *Tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
}

// Close closes the tab.
func (tab *Tab) Close() { tab.cancel() }
