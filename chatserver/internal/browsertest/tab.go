package browsertest

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Value evaluates a JavaScript expression in the tab. A promise is waited for.
func Value[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	return run(tab, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Do runs JavaScript in the tab for its effect.
func (tab *Tab) Do(script string) {
	tab.t.Helper()
	Value[chromedp.Void](tab, script)
}

// Wait waits until a JavaScript expression is true.
func (tab *Tab) Wait(what, condition string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond) // a hidden or frozen tab has none
	defer tick.Stop()
	for {
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if holds {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tab.t.Fatalf("waited %v for: %s\ncondition: %s\nlast error: %v\nthe page shows:\n%s", patience, what, condition, err,
				Value[string](tab, `document.title + "\n" + document.body.innerText.replace(/\n+/g, "\n").slice(-1500)`))
		}
	}
}

// Click clicks the middle of the first element that the selector finds.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	run(tab, "click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Write puts text where the focus is, all at once, as an input method does.
func (tab *Tab) Write(text string) {
	tab.t.Helper()
	command(tab, input.InsertText, input.InsertTextParams{Text: text})
}

// Keys, besides letters.
const (
	Enter     = kb.Enter
	Tabulator = kb.Tab
	ArrowUp   = kb.ArrowUp
	ArrowDown = kb.ArrowDown
	Escape    = kb.Escape
	Shift     = kb.ModifierShift
)

// Press presses and releases a key.
func (tab *Tab) Press(key string, modifiers ...chromedp.Modifier) {
	tab.t.Helper()
	for _, event := range kb.Encode([]rune(key)[0]) {
		// One event for the key and what it types: a page that handles the key prevents the typing.
		if event.Type == kb.KeyChar {
			continue
		}
		if event.Type == kb.KeyDown && (key == Enter || key >= "a" && key <= "z") {
			event.Text = key
		}
		chromedp.KeyModifiers(modifiers...)(event)
		command(tab, input.DispatchKeyEvent, *event)
	}
}

// Reload reloads the page, and waits until it is loaded.
func (tab *Tab) Reload() {
	tab.t.Helper()
	run(tab, "reload", chromedp.Reload())
}

// Freeze freezes the tab: nothing in the tab runs until Freeze is called with false.
func (tab *Tab) Freeze(on bool) {
	tab.t.Helper()
	tab.spent = true
	state := page.SetWebLifecycleStateStateActive
	if on {
		tab.focus(false) // a tab with the focus is not frozen
		state = page.SetWebLifecycleStateStateFrozen
	}
	command(tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	tab.focus(!on)
}

// Hide minimizes the tab's window: the page gets no animation frames until Hide(false).
func (tab *Tab) Hide(on bool) {
	tab.t.Helper()
	tab.spent = true
	bounds := &browser.Bounds{WindowState: browser.WindowStateNormal}
	if on {
		tab.focus(false)
		bounds.WindowState = browser.WindowStateMinimized
	}
	window := command(tab, browser.GetWindowForTarget, browser.GetWindowForTargetParams{})
	command(tab, browser.SetWindowBounds, browser.SetWindowBoundsParams{WindowID: window.WindowID, Bounds: bounds})
	tab.focus(!on)
}

// Media sets a media feature, such as forced-colors, to this value, and waits until the page knows.
func (tab *Tab) Media(feature, value string) {
	tab.t.Helper()
	command(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
	// The page's listeners run in the frame after the change.
	tab.Do(`new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
}

// Emulate gives the tab a screen of this size, light or dark, and waits until the page knows.
func (tab *Tab) Emulate(width, height int64, dark bool) {
	tab.t.Helper()
	run(tab, "emulate a screen", chromedp.EmulateViewport(width, height))
	tab.Media("prefers-color-scheme", map[bool]string{false: "light", true: "dark"}[dark])
}

// Screenshot writes a picture of the tab to the directory that SCREENSHOTS names, if it names one.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		picture := run(tab, "take a screenshot", chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
			tab.t.Fatal(err)
		}
	}
}

// focus makes the tab believe that it has the focus, as if each tab were on a screen of its own.
func (tab *Tab) focus(on bool) {
	tab.t.Helper()
	command(tab, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: on})
}
