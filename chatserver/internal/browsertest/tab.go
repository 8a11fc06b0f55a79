package browsertest

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Value evaluates a JavaScript expression in the tab. A promise is waited for.
func Value[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return value
}

// Do runs JavaScript in the tab for its effect.
func (tab *Tab) Do(script string) {
	tab.t.Helper()
	tab.do("run "+script, chromedp.Evaluate[chromedp.Void](script, chromedp.EvalAwaitPromise))
}

// Wait waits until a JavaScript expression is true.
func (tab *Tab) Wait(what, condition string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	// Asked from outside: timers and animation frames inside a hidden or frozen tab do not run.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if holds {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tab.t.Fatalf("waited %v for: %s\ncondition: %s\nlast error: %v\nthe page shows:\n%s", patience, what, condition, err, tab.shown())
		}
	}
}

// shown is what a person would see, for a message about a failure.
func (tab *Tab) shown() string {
	ctx, cancel := context.WithTimeout(tab.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.title + "\n" + document.body.innerText.replace(/\n+/g, "\n").slice(-1500)`))
	if err != nil {
		return err.Error()
	}
	return text
}

// Click clicks the middle of the first element that the selector finds.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Write puts text where the focus is, all at once, as an input method does.
func (tab *Tab) Write(text string) {
	tab.t.Helper()
	tab.do("write", command(input.InsertText, input.InsertTextParams{Text: text}))
}

// The keys that tests press.
const (
	Enter     = kb.Enter
	Tabulator = kb.Tab
	ArrowUp   = kb.ArrowUp
	ArrowDown = kb.ArrowDown
	Escape    = kb.Escape

	Shift = kb.ModifierShift
)

// Press presses and releases a key.
func (tab *Tab) Press(key string, modifiers ...chromedp.Modifier) {
	tab.t.Helper()
	for _, event := range kb.Encode([]rune(key)[0]) {
		switch event.Type {
		case kb.KeyChar:
			continue
		case kb.KeyDown:
			// One event for the key and what it types: a page that handles the key then prevents the typing, as with a
			// real keyboard. A separate "char" event would type in any case.
			if key == Enter {
				event.Text = key
			}
		}
		chromedp.KeyModifiers(modifiers...)(event)
		tab.do("press a key", command(input.DispatchKeyEvent, *event))
	}
}

// Type presses and releases a key that types a letter.
func (tab *Tab) Type(letter string) {
	tab.t.Helper()
	tab.do("type "+letter, chromedp.KeyEvent(letter))
}

// Go leads the tab to another page, and waits until it is loaded.
func (tab *Tab) Go(url string) {
	tab.t.Helper()
	tab.do("go to "+url, chromedp.Navigate(url))
}

// Media has a media feature, such as forced-colors, tell the page this value, and waits until the page knows.
func (tab *Tab) Media(feature, value string) {
	tab.t.Helper()
	tab.do("emulate a medium", command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	}))
	tab.drawn()
}

// drawn waits for two animation frames. The page hears of another size or medium in the frame after the change, before it is
// drawn: a test that asked at once would see the new layout with what the page's listeners had made for the old one.
func (tab *Tab) drawn() {
	tab.t.Helper()
	tab.Do(`new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
}

// Reload reloads the page, and waits until it is loaded.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.do("reload", chromedp.Reload())
}

// Freeze freezes the tab as a browser does with one that was long in the background: nothing in it runs.
func (tab *Tab) Freeze() {
	tab.t.Helper()
	tab.focus(false) // what has the focus is not frozen
	tab.do("freeze", command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateFrozen}))
}

// Thaw ends Freeze.
func (tab *Tab) Thaw() {
	tab.t.Helper()
	tab.do("thaw", command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateActive}))
	tab.focus(true)
}

// Hide minimizes the tab's window: the page is hidden then, and gets no animation frames.
func (tab *Tab) Hide() {
	tab.t.Helper()
	tab.focus(false)
	tab.window(browser.WindowStateMinimized)
}

// Show ends Hide.
func (tab *Tab) Show() {
	tab.t.Helper()
	tab.window(browser.WindowStateNormal)
	tab.focus(true)
}

// Emulate gives the tab a screen of this size in CSS pixels, light or dark, and waits until the page knows.
func (tab *Tab) Emulate(width, height int64, dark bool) {
	tab.t.Helper()
	tab.do("emulate a screen", chromedp.EmulateViewport(width, height))
	tab.Media("prefers-color-scheme", map[bool]string{false: "light", true: "dark"}[dark])
}

// Picture is Emulate and Screenshot.
func (tab *Tab) Picture(name string, width, height int64, dark bool) {
	tab.t.Helper()
	tab.Emulate(width, height, dark)
	tab.Screenshot(name)
}

// Screenshot writes a picture of the tab to the directory that SCREENSHOTS names. Without it, there are no pictures.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tab.t.Fatalf("take a screenshot: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// MainThread returns how long the tab's main thread has computed so far: its own time, in which other programs on the
// machine have no part.
func (tab *Tab) MainThread() time.Duration {
	tab.t.Helper()
	var seconds float64
	tab.do("ask for the main thread's time", func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
		if err != nil {
			return chromedp.Void{}, err
		}
		result, err := cdp.Call(ctx, target, performance.GetMetrics, cdp.Empty{})
		for _, metric := range result.Metrics {
			if metric.Name == "TaskDuration" {
				seconds = metric.Value
			}
		}
		return chromedp.Void{}, err
	})
	return time.Duration(seconds * float64(time.Second))
}

// command is a command of the DevTools protocol whose answer does not matter.
func command[Parameters, Answer any](name cdp.Command[Parameters, Answer], parameters Parameters) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, name, parameters)
		return chromedp.Void{}, err
	}
}

// focus has the tab believe that it has the focus, as if each tab were on a screen of its own.
func (tab *Tab) focus(on bool) {
	tab.t.Helper()
	tab.do("emulate the focus", command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: on}))
}

func (tab *Tab) window(state browser.WindowState) {
	tab.t.Helper()
	tab.do("change the window", func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		window, err := cdp.Call(ctx, target, browser.GetWindowForTarget, browser.GetWindowForTargetParams{})
		if err != nil {
			return chromedp.Void{}, err
		}
		_, err = cdp.Call(ctx, target, browser.SetWindowBounds, browser.SetWindowBoundsParams{
			WindowID: window.WindowID, Bounds: &browser.Bounds{WindowState: state},
		})
		return chromedp.Void{}, err
	})
}
