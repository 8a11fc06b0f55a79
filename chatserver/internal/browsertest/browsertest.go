// Package browsertest lets a test use the page as a person does, in a real Chromium.
package browsertest

import (
	"context"
	"errors"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds every wait. A passing test never uses patience up.
const patience = 60 * time.Second

// Helpers is JavaScript that the conditions of tests may use, in every page that Open has opened.
const Helpers = `
	window.$ = (selector) => document.querySelector(selector);
	window.$$ = (selector) => [...document.querySelectorAll(selector)];
	window.texts = (selector) => $$(selector).map((element) => element.textContent).join("|");`

// A Chromium is one process for all tests of a package. The zero value is ready; TestMain stops it.
type Chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error // of the start

	mu   sync.Mutex      // guards the following
	idle []*Tab          // of tests that have passed: to reuse a tab is ten times faster than to make one
	seen map[string]bool // URLs for whose pages a tab may have stored something
}

// Open opens the page at url in a window where no other test has stored data. The test fails if the
// page's script throws or breaks the page's security policy. Without a Chromium the test is skipped.
func (c *Chromium) Open(t testing.TB, url string) *Tab {
	t.Helper()
	c.once.Do(c.start)
	if errors.Is(c.err, exec.ErrNotFound) {
		t.Skip("no Chromium found: install chromium or Google Chrome to run the tests of the page")
	}
	if c.err != nil {
		t.Fatalf("start a Chromium: %v", c.err)
	}
	c.mu.Lock()
	tab := &Tab{t: t}
	if n := len(c.idle); n > 0 && !c.seen[url] {
		tab, c.idle = c.idle[n-1], c.idle[:n-1]
		tab.t = t
	}
	c.seen[url] = true
	c.mu.Unlock()
	if tab.ctx == nil {
		tab.ctx, tab.cancel = chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
		if err := chromedp.Listen(tab.ctx, tab.hear); err != nil {
			t.Fatalf("open a tab: %v", err)
		}
		tab.focus(true)
		command(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: Helpers})
	}
	t.Cleanup(func() { c.take(tab, url) })
	run(tab, "open "+url, chromedp.Navigate(url))
	return tab
}

// Stop ends the process, if Open has started one, and waits for it.
func (c *Chromium) Stop() {
	if c.stop != nil {
		c.stop()
	}
}

// take takes a tab back when its test has ended.
func (c *Chromium) take(tab *Tab, url string) {
	if tab.t.Failed() || tab.spent {
		tab.cancel()
	} else {
		run(tab, "leave", chromedp.Navigate("about:blank"))
		command(tab, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
		command(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
		defer func() {
			c.mu.Lock()
			c.idle = append(c.idle, tab)
			c.mu.Unlock()
		}()
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, complaint := range tab.bad {
		tab.t.Errorf("the page at %s complained: %s", url, complaint)
	}
	tab.bad = nil
}

func (c *Chromium) start() {
	c.seen = map[string]bool{}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // a container lacks what the sandbox needs
		chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-component-update", true), // a browser that looks for updates fails offline
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("blink-settings", "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"), // a mouse
		chromedp.WindowSize(1280, 800),
		chromedp.WSURLReadTimeout(90*time.Second), // a start is slow on a cold disk
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	c.ctx = ctx
	c.stop = func() {
		closeBrowser()
		stop() // waits for the process, and removes its profile
	}
	c.err = chromedp.Do(ctx)
}

// A Tab is one page. Its methods fail the test when they cannot do what they say.
type Tab struct {
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc
	spent  bool // its window or lifecycle state was changed: no other test may get the tab

	mu  sync.Mutex
	bad []string // what the page complained about; guarded by mu
}

func (tab *Tab) hear(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		tab.bad = append(tab.bad, (&chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if event.Entry.Source == log.EntrySourceSecurity {
			tab.bad = append(tab.bad, event.Entry.Text)
		}
	}
}

// run does something, within patience.
func run[T any](tab *Tab, what string, action chromedp.Action[T]) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
	return value
}

// command gives a command of the DevTools protocol.
func command[Parameters, Answer any](tab *Tab, name cdp.Command[Parameters, Answer], parameters Parameters) Answer {
	tab.t.Helper()
	return run(tab, name.Method, func(ctx context.Context, target *chromedp.Target) (Answer, error) {
		return cdp.Call(ctx, target, name, parameters)
	})
}
