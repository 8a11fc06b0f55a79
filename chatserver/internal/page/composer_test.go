package page_test

import (
	"strings"
	"testing"

	"kafkachat/chatserver/internal/browsertest"
)

// TestComposer: what is written is sent as it is, nothing that was written is lost, and Enter belongs to the input method
// while a word is being composed.
func TestComposer(t *testing.T) {
	v := visitLive(t, event{"max_bytes": 40})
	v.Wait("the focus is where one writes", `document.activeElement.id === "text"`)
	value := func(want string) {
		t.Helper()
		v.Wait("the text "+want, `$("#text").value === `+js(want))
	}
	arrow := func(key string, want ...string) { // from the edge where it leads on
		t.Helper()
		v.Do(`$("#text").setSelectionRange(` + map[string]string{browsertest.ArrowUp: "0, 0", browsertest.ArrowDown: "99, 99"}[key] + `)`)
		for _, text := range want {
			v.Press(key)
			value(text)
		}
	}
	v.Write("line one")
	v.Press(browsertest.Enter, browsertest.Shift)
	v.Write("  line two  ")
	v.Press(browsertest.Enter)
	v.expect("line one\n  line two")
	value("")
	v.Press(browsertest.Enter)
	v.write("   ")
	v.Do(`$("#text").select()`)
	v.say("second") // nothing was sent for the empty ones
	v.Write("draft")
	arrow(browsertest.ArrowUp, "second", "line one\n  line two", "line one\n  line two")
	arrow(browsertest.ArrowDown, "second", "draft", "draft")
	// What is changed after an arrow is a draft, and the draft before it can be brought back.
	arrow(browsertest.ArrowUp, "second")
	v.Write("changed, ")
	v.Press(browsertest.ArrowDown)
	value("changed, second")
	arrow(browsertest.ArrowUp, "draft")
	v.Press(browsertest.Enter)
	v.expect("draft")
	value("changed, second") // what was sent is one thing, what was being written another
	v.Do(`$("#text").select()`)
	v.Write("日本")
	for _, init := range []string{`{ isComposing: true }`, `{ keyCode: 229 }`} { // the second as Safari does, after the end
		v.Do(`$("#text").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...` + init + ` }))`)
	}
	value("日本")
	v.Write("語")
	v.Press(browsertest.Enter)
	v.expect("日本語")
	v.Write("twenty-one of these: ééééééééééééééééééééé")
	v.Wait("the bound, in bytes", `$("#hint").textContent === "Too long by 23 bytes."`)
	v.Press(browsertest.Enter)
	v.Do(`$("#text").select()`)
	v.Write("half an emoji: \U0001F388 ok")
	v.Click("#send")
	v.expect("half an emoji: \U0001F388 ok") // and the long one was not sent

	// Who has no name gets one that differs, and may change it. A name may come fixed from the server.
	saidAs := func(text, want string) {
		t.Helper()
		if got := v.say(text)[0].Name; got != want {
			t.Errorf("%s: sent as %q, want %q", text, got, want)
		}
	}
	guest := browsertest.Value[string](v.Tab, `$("#name").value`)
	saidAs("a guest", guest)
	v.Click("#name")
	v.Write("Zoë") // what was there is selected
	saidAs("renamed", "Zoë")
	const clear = `$("#name").value = ""; $("#name").dispatchEvent(new Event("input"));`
	v.Do(clear)
	saidAs("the same guest", guest)
	v.Do(clear + `localStorage.removeItem("kafkachat.guest"); Math.random = () => 0.9`) // in another browser
	saidAs("another guest", "Guest 910")
	v.Click("#name")
	v.Do(`$("#name").select()`)
	v.Write(strings.Repeat("1234567890", 6) + "\U0001F388\U0001F388")
	v.Wait("a name of at most 64 bytes, and no half letter", `$("#name").value.length === 62`)
	v.cut()
	v.back(event{"name": "ada@example.com"})
	v.Wait("no field for another name", `!$("#name").checkVisibility() && $("#text").placeholder === "Write as ada@example.com" && $("#text").clientWidth > 400`)
	saidAs("fixed", "ada@example.com")
}

// TestKeyboard: everything can be reached, typing writes, Escape closes what is open, or leads back to the end.
func TestKeyboard(t *testing.T) {
	v := visitLive(t, nil, crowd(0, 100)...)
	v.Wait("ready to write", lastShown+` === "message 99" && document.activeElement.id === "text"`)
	// Backwards from the text: name, the newest message's button, the log, the pods, the panel's button. All messages are one stop.
	focusOn := func(what, condition string) {
		t.Helper()
		v.Press(browsertest.Tabulator, browsertest.Shift)
		v.Wait("the focus on "+what, condition)
	}
	row := func(text string) string {
		return `document.activeElement.closest("#rows li")?.querySelector(".text").textContent === ` + js(text)
	}
	focusOn("the name", `document.activeElement.id === "name"`)
	focusOn("the newest message", row("message 99"))
	v.Press(browsertest.ArrowUp)
	v.Press(browsertest.ArrowUp)
	v.Press(browsertest.ArrowDown)
	v.Wait("the arrows walk", row("message 98"))
	v.Press(browsertest.Enter)
	v.Wait("where it came from", `document.activeElement.ariaExpanded === "true" && $("#rows .origin").textContent.endsWith("through pod-b, stored at chat, partition 0 @ 98")`)
	v.Press(browsertest.Enter)
	v.Wait("closed again", `!$("#rows .origin")`)
	focusOn("the log", `document.activeElement.id === "log"`)
	focusOn("the pods, which may need scrolling", `document.activeElement.id === "pods"`)
	focusOn("the panel's button", `document.activeElement.id === "how"`)
	v.Press(browsertest.Enter)
	v.Wait("the panel", `!$("#panel").hidden`)

	v.Wait("reading", `($("#log").scrollTop -= 300, $("#log").focus(), !$("#latest").hidden)`)
	v.Press(browsertest.Escape)
	v.Wait("first the panel", `$("#panel").hidden && !$("#latest").hidden`)
	v.Press(browsertest.Escape)
	v.Wait("then back to the end", `$("#latest").hidden && document.activeElement.id === "text" && `+atEnd)
	v.Do(`$("#log").focus()`)
	v.Press("h")
	v.Wait("typing writes", `document.activeElement.id === "text" && $("#text").value === "h"`)
}
