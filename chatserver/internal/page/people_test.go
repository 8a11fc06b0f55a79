package page_test

import (
	"fmt"
	"strings"
	"testing"

	"kafkachat/chatserver/internal/browsertest"
)

// TestGuests: who has no name gets one that differs, and may change it.
func TestGuests(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	names := map[string]bool{}
	for range 3 {
		tab := open(t, pod.url)
		socket := pod.accept()
		socket.open()
		tab.Wait("live", isLive)
		say(tab, "hello")
		name := socket.expect("hello")[0].Name
		if !strings.HasPrefix(name, "Guest ") {
			t.Errorf("a guest is called %q", name)
		}
		names[name] = true
		if len(names) > 1 {
			continue
		}
		tab.Click("#name")
		tab.Write("Zoë") // what was there is selected
		say(tab, "renamed")
		if name := socket.expect("renamed")[0].Name; name != "Zoë" {
			t.Errorf("then it is called %q", name)
		}
		tab.Do(`document.querySelector("#name").select()`)
		tab.Do(`document.querySelector("#name").value = ""; document.querySelector("#name").dispatchEvent(new Event("input"))`)
		say(tab, "nameless")
		if again := socket.expect("nameless")[0].Name; again != name {
			t.Errorf("without a name it is called %q, before %q", again, name)
		}
	}
	if len(names) < 2 { // of 900
		t.Errorf("three guests are called %v", names)
	}
}

// TestStrangersAreNotGrouped: only a name makes one person's messages a paragraph.
func TestStrangersAreNotGrouped(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(record(1, "raw-00000000000001", "", "one"), record(2, "raw-00000000000002", "", "two"), record(3, "", "", "three"), record(4, "", "", "four"),
		record(5, "named-000000000001", "Ann", "five"), record(6, "named-000000000002", "Ann", "six"))
	tab.Wait("who follows whom", isLive+` && [...document.querySelectorAll("#rows .message")].map((row) => Number(row.classList.contains("follows"))).join("") === "000001"`)
	tab.Wait("what they are called", `[...document.querySelectorAll("#rows .who")].map((who) => who.textContent).join() ===
		"Guest,Guest,kafkawrite or another program,kafkawrite or another program,Ann,Ann"`)
}

func TestFixedName(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"name": "ada@example.com"})
	socket.send(live())
	tab.Wait("no field for another name", isLive+` && document.querySelector("#name").checkVisibility() === false && document.querySelector("#text").placeholder === "Write as ada@example.com"`)
	tab.Wait("room for the text", `document.querySelector("#text").clientWidth > 400`)
	say(tab, "hello")
	if name := socket.expect("hello")[0].Name; name != "ada@example.com" {
		t.Errorf("sent as %q", name)
	}
}

// TestNamesAndLinksCannotPretend: what turns text around or is not seen is not in them, and a link tells where it leads.
func TestNamesAndLinksCannotPretend(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(
		record(1, "hostile-000000001", "\u202eAn\u200bn\u2066\u00ad\n", "turned \u202ehttps://evil.example/\u202emoc.knab and on"),
		record(2, "hostile-000000002", "\u200b\u2060", "https://bank.example@evil.example/x"),
		record(3, "hostile-000000003", "Bob", "https://b\u0430nk.example/ and https://Example.org:443/ and http://example.org/a"),
		record(4, "hostile-000000004", "Z"+strings.Repeat("\u0301", 300), "y"+strings.Repeat("\u0316", 300)),
	)
	tab.Wait("names", isLive+` && [...document.querySelectorAll("#rows .who")].slice(0, 3).map((who) => who.textContent).join("|") === "Ann|Guest|Bob"`)
	tab.Wait("links", `[...document.querySelectorAll("#rows a")].map((link) => link.textContent).join("|") ===
		"https://evil.example/|https://bank.example@evil.example/x [evil.example]|https://b\u0430nk.example/ [xn--bnk-6cd.example]|https://Example.org:443/|http://example.org/a"`)
	tab.Wait("links are isolated from what turns the text around them", `getComputedStyle(document.querySelector("#rows a")).unicodeBidi === "isolate"`)
	tab.Wait("marks stay in their own row", `[...document.querySelectorAll("#rows .who, #rows .text")].every((part) => getComputedStyle(part).overflow === "clip") &&
		[...document.querySelectorAll("#rows .who")].at(-1).textContent.length === 5`)
}

// TestHeightOfAMessage: nobody fills the screens of others.
func TestHeightOfAMessage(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(record(1, "long-0000000000001", "Ann", strings.Repeat("\n", 8000)+"end"), record(2, "long-0000000000002", "Bob", strings.Repeat("word ", 1500)),
		record(3, "short-000000000001", "Eve", "short"))
	tab.Wait("less than a screen each", isLive+` && [...document.querySelectorAll("#rows .message")].every((row) => row.offsetHeight < 600)`)
	tab.Wait("what is cut can be shown", `document.querySelectorAll("#rows .all").length === 2`)
	tab.Do(`document.querySelectorAll("#rows .all")[1].click()`)
	tab.Wait("all of it", `document.querySelectorAll("#rows .all").length === 1 && (text => text.scrollHeight <= text.clientHeight + 1)(document.querySelectorAll("#rows .text")[1])`)
}

// TestInputMethods: the Enter that ends a word is not the Enter that sends. Safari sends it after the end.
func TestInputMethods(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	tab.Wait("live", isLive)
	tab.Do(`document.querySelector("#text").focus()`)
	tab.Write("日本")
	for _, init := range []string{`{ isComposing: true }`, `{ keyCode: 229 }`} {
		tab.Do(`document.querySelector("#text").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...` + init + ` }))`)
	}
	tab.Wait("it is still being written", `document.querySelector("#text").value === "日本"`)
	tab.Write("語")
	tab.Press(browsertest.Enter)
	socket.expect("日本語")
}

// TestArrowsLoseNothing: what was written before, and what was changed after an arrow, can be brought back.
func TestArrowsLoseNothing(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	say(tab, "sent")
	socket.expect("sent")
	value := func(want string) {
		t.Helper()
		tab.Wait(want, `document.querySelector("#text").value === `+js(want))
	}
	tab.Write("draft")
	tab.Do(`document.querySelector("#text").setSelectionRange(0, 0)`)
	tab.Press(browsertest.ArrowUp)
	value("sent")
	tab.Write("changed, ")
	value("changed, sent")
	tab.Press(browsertest.ArrowDown)
	value("changed, sent") // before, this was gone
	tab.Do(`document.querySelector("#text").setSelectionRange(0, 0)`)
	tab.Press(browsertest.ArrowUp)
	value("draft")
	tab.Do(`document.querySelector("#text").setSelectionRange(99, 99)`)
	tab.Press(browsertest.ArrowDown)
	value("changed, sent")
	tab.Do(`document.querySelector("#text").setSelectionRange(0, 0)`)
	tab.Press(browsertest.ArrowUp)
	tab.Press(browsertest.Enter)
	socket.expect("draft")
	value("changed, sent") // what was sent is one thing, what was being written another
}

// TestTranslatedPage: a browser that translates wraps each text in elements of its own.
func TestTranslatedPage(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	say(tab, "refuse me")
	socket.send(event{"type": "reject", "id": socket.expect("refuse me")[0].ID, "reason": "no"})
	tab.Wait("the refusal", state("refuse me", "Refused: no"))
	tab.Do(`for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), all = []; ; ) {
		if (walk.nextNode()) { all.push(walk.currentNode); continue; }
		for (const text of all) if (text.data.trim() && !text.parentElement.closest("textarea")) {
			const [outer, inner] = [document.createElement("font"), document.createElement("font")];
			outer.append(inner); text.replaceWith(outer); inner.append(text);
		}
		break;
	}`)
	tab.Click("#rows .when font")
	tab.Wait("the details", `document.querySelector("#rows .origin")`)
	tab.Click(`#pending button[value="remove"] font`)
	tab.Wait("gone", shown("hello"))
	tab.Click("#how font")
	tab.Wait("the panel", `!document.querySelector("#panel").hidden`)
	tab.Wait("the translation stays", `document.querySelector("#connection-text font")`)
}

// TestMidnight: a page that is open over midnight has one "Today".
func TestMidnight(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "before"))
	days := func(want string) string {
		return `[...document.querySelectorAll("#rows .day")].map((day) => Number(day.textContent === "Today")).join("") === ` + js(want)
	}
	tab.Wait("today", isLive+" && "+days("1"))
	tab.Do(`const Real = Date; window.Date = class extends Real {
		constructor(...parts) { super(...(parts.length ? parts : [Real.now() + 86_400_000])); }
		static now() { return Real.now() + 86_400_000; }
	}`)
	e := record(2, "somebody-else-0002", "Ann", "after")
	delete(e, "time") // then it is of this moment
	socket.send(e)
	tab.Wait("yesterday, and today", shown("before", "after")+" && "+days("01"))
}

// TestStateOfAnotherVersion: what does not fit is forgotten, and the page works.
func TestStateOfAnotherVersion(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(record(1, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("live", isLive+" && "+shown("hello"))
	for _, kept := range []string{`{"position":"1","lastOffset":1,"items":[{"kind":"message"}]}`, `{"position":"1","lastOffset":1,"items":7}`, `{"items":[null]}`, `[1]`, `"x"`, `7`, `null`, `{`} {
		tab.Do(`for (const [area, keys] of [[sessionStorage, ["conversation", "outbox", "sent", "done", "panel"]], [localStorage, ["name", "guest"]]])
				for (const key of keys) area.setItem("kafkachat." + key, ` + js(kept) + `);
			Storage.prototype.setItem = () => {}`)
		tab.Reload()
		socket := pod.accept()
		if !socket.asked.Has("last") {
			t.Errorf("with %s the page asked for %v", kept, socket.asked)
		}
		socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
		tab.Wait("the page works with "+kept, isLive+" && "+shown("hello"))
		say(tab, "mine")
		socket.send(socket.expect("mine")[0].echo(2))
		tab.Wait("sent", shown("hello", "mine"))
	}
}

// TestKeysAnywhere: typing writes, Escape closes what is open, or leads back to the end.
func TestKeysAnywhere(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(crowd(0, 200)...)
	tab.Wait("live", isLive+` && `+lastShown+` === "message 199"`)
	tab.Do(`document.querySelector("#log").focus()`)
	tab.Type("h")
	tab.Wait("typing writes", `document.activeElement.id === "text" && document.querySelector("#text").value === "h"`)
	tab.Wait("reading", `(document.querySelector("#log").scrollTop -= 300, document.querySelector("#log").focus(), !document.querySelector("#latest").hidden)`)
	tab.Click("#how")
	tab.Press(browsertest.Escape)
	tab.Wait("first the panel", `document.querySelector("#panel").hidden && !document.querySelector("#latest").hidden`)
	tab.Press(browsertest.Escape)
	tab.Wait("then back to the end", `document.querySelector("#latest").hidden && document.activeElement.id === "text" && `+belowPX+` <= 1`)
}

// TestFind finds what is not in the document.
func TestFind(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().open(crowd(0, 2000)...)
	tab.Wait("live", isLive+` && `+lastShown+` === "message 1999"`)
	tab.Do(`document.querySelector("#find-open").click()`)
	found := func(text string) {
		t.Helper()
		tab.Wait("found "+text, `document.querySelector("#rows .found .text")?.textContent === `+js(text)+` && (box => box.top >= 0 && box.bottom <= innerHeight)(document.querySelector("#rows .found").getBoundingClientRect())`)
	}
	tab.Write("MESSAGE 12")
	found("message 1299")
	tab.Press(browsertest.Enter)
	found("message 1298")
	tab.Click("#find-next")
	found("message 1299")
	tab.Do(`document.querySelector("#find-text").select()`)
	tab.Write("message 7 nowhere")
	tab.Wait("not found", `document.querySelector("#find-result").textContent === "Not found"`)
	tab.Press(browsertest.Escape)
	tab.Wait("closed", `document.querySelector("#find").hidden && !document.querySelector(".found")`)
	checkNodes(t, tab, "after finding")
}

// TestOlder reads on to what the pod has, and says where its memory ends.
func TestOlder(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"where": "laptop"})
	socket.send(crowd(500, 100)...)
	socket.send(live())
	tab.Wait("live", isLive+` && `+lastShown+` === "message 599"`)
	for i, c := range []struct {
		first, n int
		gap      bool
		says     string
	}{{300, 200, false, ""}, {250, 50, true, "The memory of this pod begins here."}} {
		tab.Wait("the upper end", `(document.querySelector("#log").scrollTop = 0, `+firstShown+` === "message `+fmt.Sprint(c.first+c.n)+`" && document.querySelector("#older").checkVisibility({ visibilityProperty: true }))`)
		where := `Math.round([...document.querySelectorAll("#rows .message")].find((row) => row.querySelector(".text").textContent === "message ` + fmt.Sprint(c.first+c.n) + `")?.getBoundingClientRect().top)`
		before := browsertest.Value[int](tab, where)
		tab.Do(`document.querySelector("#older").click()`)
		older := pod.accept()
		if got := older.asked; got.Get("before") != position(c.first+c.n) || got.Get("last") != "200" {
			t.Errorf("the page asked for %v", got)
		}
		if i == 0 {
			older.welcome(nil)
		}
		if c.gap {
			older.send(event{"type": "gap"})
		}
		older.send(crowd(c.first, c.n)...)
		older.send(live())
		older.waitClosed()
		tab.Wait("older ones above", `document.querySelector("#older").textContent !== "Reading…" && `+firstShown+` !== "message `+fmt.Sprint(c.first+c.n)+`"`)
		if after := browsertest.Value[int](tab, where); after < before-2 || after > before+2 {
			t.Errorf("the reader was moved by %d pixels", after-before)
		}
		tab.Wait("up to the oldest", `(document.querySelector("#log").scrollTop = 0, `+firstShown+` === "message `+fmt.Sprint(c.first)+`" && document.querySelector("#log-start-text").textContent.startsWith(`+js(c.says)+`))`)
	}
	tab.Wait("no more", `!document.querySelector("#older").checkVisibility({ visibilityProperty: true }) && document.querySelectorAll("#rows .day").length === 1`)
}
