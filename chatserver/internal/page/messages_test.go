package page_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

const (
	firstShown = `$("#rows .text")?.textContent`
	lastShown  = `$$("#rows .text").at(-1)?.textContent`
	atEnd      = `($("#log").scrollHeight - $("#log").scrollTop - $("#log").clientHeight <= 1)`
	// scrolledUp is a condition: somebody reads further up. What has just been laid out is not moved, so it takes a try or two.
	scrolledUp = `($("#latest").hidden && ($("#log").scrollTop -= 700), !$("#latest").hidden)`
	// topRow is what a reader sees at the upper edge: which message, and how many pixels below the edge.
	topRow = `(() => {
		const top = $("#log").getBoundingClientRect().top;
		const row = $$("#rows .message").find((row) => row.getBoundingClientRect().top >= top);
		return row.querySelector(".text").textContent + " at " + Math.round(row.getBoundingClientRect().top - top);
	})()`
	// fewNodes is a condition on everything in the document, text included.
	fewNodes     = `(() => { let n = 0; for (const w = document.createTreeWalker(document); w.nextNode(); ) n++; return n < 1500; })()`
	nothingWaits = `$("#pending").children.length === 0`
	// What stands above the oldest message.
	memoryBegins = `$("#log-start-text").textContent.startsWith("The memory of this pod begins here.")`
	offersOlder  = `$("#older").checkVisibility({ visibilityProperty: true })`
)

// TestFirstVisit: from the first event to one's own stored message; and a page that is open over midnight has one "Today".
func TestFirstVisit(t *testing.T) {
	t.Parallel()
	v := visitPod(t)
	v.Wait("title and heading before the first event", `document.title === "Connected to Pod pod-a" && $("h1").textContent === "Chatting on pod-a"`)
	v.welcome(event{"pod": `pod-"<b>"`, "where": "laptop", "kafka": "down", "broker": "localhost:9999"})
	v.Wait("the pod that the socket reached", `document.title === 'Connected to Pod pod-"<b>"' && $("h1").textContent === 'Chatting on pod-"<b>"'`)
	v.send(kafka("down", "Kafka is not reachable"))
	v.Wait("what the pod waits for", are("#connection-text", "Waiting for Kafka…")+" && "+
		are("#banners .kafka", "Kafka is not reachable (localhost:9999). Your messages wait here until Kafka takes them."))
	v.send(kafka("up", ""))
	v.Wait("a replay, which is not read out", are("#connection-text", "Catching up…")+` && $("#log[role=log]").ariaBusy === "true"`)
	v.send(hello(7, "hello"), live())
	v.Wait("the history, and all of it", isLive+" && "+shown("hello")+" && "+memoryBegins+" && !"+offersOlder)
	v.Wait("news are read out, and the connection", `$("#log").ariaBusy === "false" && $("#connection-text[role=status]").textContent === "Connected"`)

	mine := v.say("hi Ann")[0]
	v.Wait("my message at once", shown("hello", "hi Ann")+" && "+state("hi Ann", "Sending…"))
	v.send(mine.ack(8))
	v.Wait("its state", state("hi Ann", "Stored in Kafka"))
	v.send(mine.echo(8))
	v.Wait("my message in the conversation", shown("hello", "hi Ann")+` && $("#rows .mine .state").textContent === "Stored in Kafka" && `+nothingWaits)

	days := `$$("#rows .day").map((day) => Number(day.textContent === "Today")).join("") === `
	v.Wait("today", days+`"1"`)
	v.Do(`const Real = Date; window.Date = class extends Real {
		constructor(...parts) { super(...(parts.length ? parts : [Real.now() + 86_400_000])); }
		static now() { return Real.now() + 86_400_000; }
	}`)
	tomorrow := hello(9, "after")
	delete(tomorrow, "time") // then it is of this moment
	v.send(tomorrow)
	v.Wait("yesterday, and today", shown("hello", "hi Ann", "after")+" && "+days+`"01"`)
}

// TestNothingLostNothingTwice: what the page shows of what client.js does; the script of client.js has all the cases.
func TestNothingLostNothingTwice(t *testing.T) {
	v := visitLive(t, nil, hello(1, "hello"))
	mine := v.say("stored", "maybe", "forget it")
	v.send(mine[0].ack(9))
	v.Wait("the ack", state("stored", "Stored in Kafka"))
	v.cut()
	v.acceptAfter(1)
	v.Wait("closed until the welcome", isClosed)
	v.write("never sent")
	v.welcome(event{"resumed": false, "reason": "gap"})
	v.send(hello(19, "after the gap"), record(20, "", "", "no id"))
	// What is known to be stored needs no question: its place is lost, so it stands at the gap. About what was sent and may be
	// lost the person decides, and what was never sent needs no question.
	v.Wait("the questions", noted("Messages are missing here")+" && "+state("maybe", "Maybe sent. Send again?")+" && "+
		state("forget it", "Maybe sent. Send again?")+" && "+state("never sent", "Waits for the connection"))
	v.send(live())
	never := v.expect("never sent")[0]
	v.Wait("it is on the way, and the rows above it stand still", state("never sent", "Sending…")) // its shorter state may be a line less
	v.Click(`#pending > li:nth-child(1) button[value="again"]`)
	v.expectAgain(mine[1])
	v.Wait("the first question is answered", state("maybe", "Sending…")) // and the second one stands still
	v.Click(`#pending > li:nth-child(2) button[value="remove"]`)
	v.send(mine[1].echo(21), mine[1].echo(22), mine[1].ack(21), record(20, "", "", "no id"), never.echo(23))
	v.Wait("everything once, and one is gone", shown("hello", "stored", "after the gap", "no id", "maybe", "never sent")+" && "+nothingWaits)
	v.cut()
	v.back(event{"resumed": false, "reason": "fresh", "detail": "not a position"})
	v.Wait("its place is lost", noted("lost its place"))
}

// TestRefused: the reason, and what can be done; also where a browser that translates wraps each text in elements of its own.
func TestRefused(t *testing.T) {
	v := visitLive(t, nil, hello(1, "hello"))
	mine := v.say("refuse me")[0]
	v.send(mine.reject("Kafka says no"), event{"type": "reject", "reason": "not JSON"})
	v.Wait("the reason, and one that is about no message", state("refuse me", "Refused: Kafka says no")+" && "+noted("Refused: not JSON"))
	v.Wait("the last, for screen readers", are("#announcer[role=status]", "Refused: not JSON"))
	v.Do(`for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), all = []; ; ) {
		if (walk.nextNode()) { all.push(walk.currentNode); continue; }
		for (const text of all) if (text.data.trim() && !text.parentElement.closest("textarea")) {
			const [outer, inner] = [document.createElement("font"), document.createElement("font")];
			outer.append(inner); text.replaceWith(outer); inner.append(text);
		}
		break;
	}`)
	v.Click("#rows .when font")
	v.Wait("the details", `$("#rows .origin")`)
	v.Click("#how font")
	v.Wait("the panel", `!$("#panel").hidden`)
	v.Click(`#pending button[value="again"] font`)
	again := v.expect("refuse me")[0]
	if again.ID == mine.ID {
		t.Error("a refused message is done with; the new attempt must have an id of its own")
	}
	v.Wait("the translation stays", `$("#connection-text font")`)
	v.send(again.reject("still no"))
	v.Wait("the second reason", state("refuse me", "Refused: still no"))
	v.Click(`#pending button[value="remove"]`)
	v.Wait("gone", shown("hello"))
}

// TestText: what others write is text, cannot pretend to be something else, and does not fill the screens of others; only a
// name makes one person's messages a paragraph.
func TestText(t *testing.T) {
	const program = "kafkawrite or another program"
	attack := `<img src=x onerror="document.title='owned'"><script>document.title="owned"</script>`
	marks := strings.Repeat("\u0301", 300)
	var sent []event
	var names, said []string
	add := func(id, name, shownName, text, shownText string) {
		if id != "" {
			id = fmt.Sprintf("%s-%016d", id, len(sent))
		}
		sent = append(sent, record(len(sent), id, name, text))
		names, said = append(names, shownName), append(said, shownText)
	}
	same := func(id, name, shownName, text string) { add(id, name, shownName, text, text) }
	same("hostile", attack, attack, attack)
	same("hostile", "😀", "😀", `javascript:alert(1) https://example.org/a?b=(c)&d, data:text/html,x`)
	same("odd", "\u202eevil", "evil", "\x00\u202e")
	sent[2]["placeholder"] = true
	add("code", "Ann", "Ann", "```\nif a  <b {\n\t}\n``` or `go <b>run</b>`", "if a  <b {\n\t} or go <b>run</b>")
	same("", "", program, "a line\n  of kafkawrite")
	same("", "", program, "another")
	same("raw", "", "Guest", "one")
	same("raw", "", "Guest", "two")
	same("named", "Ann", "Ann", "three")
	same("named", "Ann", "Ann", "four")
	same("hostile", "\u202eAn\u200bn\u2066\u00ad\n", "Ann", "turned \u202ehttps://evil.example/\u202emoc.knab and on")
	add("hostile", "\u200b\u2060", "Guest", "https://bank.example@evil.example/x", "https://bank.example@evil.example/x [evil.example]")
	add("hostile", "Bob", "Bob", "https://b\u0430nk.example/ https://Example.org:443/ http://example.org/a",
		"https://b\u0430nk.example/ [xn--bnk-6cd.example] https://Example.org:443/ http://example.org/a")
	same("hostile", "Z"+marks, "Z"+marks[:8], "y"+marks)
	same("long", "Ann", "Ann", strings.Repeat("\n", 8000)+"end")
	same("long", "Bob", "Bob", strings.Repeat("word ", 1500))
	v := visitLive(t, nil, sent...)
	v.Wait("text that stays text", shown(said...))
	v.Wait("who spoke", are("#rows .who", names...))
	v.Wait("who follows whom", `$$("#rows .message").map((row) => Number(row.classList.contains("follows"))).join("") === "0000000001100000"`)
	v.Wait("links, and where they lead", are("#rows a", "https://example.org/a?b=(c)&d", "https://evil.example/", "https://bank.example@evil.example/x [evil.example]",
		"https://b\u0430nk.example/ [xn--bnk-6cd.example]", "https://Example.org:443/", "http://example.org/a")+
		` && $$("#rows a").every((a) => a.rel === "noopener noreferrer" && getComputedStyle(a).unicodeBidi === "isolate")`)
	v.Wait("code", `$$("#rows code").map((code) => code.className).join() === "block,"`)
	v.Wait("no element of theirs", `!$("#log img, #log script") && document.title === "Connected to Pod pod-a"`)
	v.Wait("marks stay in their own row", `$$("#rows .who, #rows .text").every((part) => getComputedStyle(part).overflow !== "visible")`)
	v.Wait("less than a screen each", `$$("#rows .message").every((row) => row.offsetHeight < 600)`)
	v.Wait("what is cut can be shown", `$$("#rows .all").length === 2`)
	v.Do(`$$("#rows .all")[1].click()`)
	v.Wait("all of it", `$$("#rows .all").length === 1 && (text => text.scrollHeight <= text.clientHeight + 1)($$("#rows .text").at(-1))`)
}

// TestTenThousandMessages: whatever has been said, the document is small, and "Find" finds what is not in the document.
func TestTenThousandMessages(t *testing.T) {
	v := visitLive(t, nil, crowd(0, 10_000)...)
	v.Wait("the newest, at the end", lastShown+` === "message 9999" && `+atEnd+" && "+fewNodes)

	// 200 messages a second, in many frames. What a message costs is counted in elements: time depends on the machine.
	v.Do(`window.made = 0; const make = document.createElement;
		document.createElement = function (name) { window.made++; return make.call(this, name); }`)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, e := range crowd(10_000, 400) {
		<-tick.C
		v.send(e)
	}
	v.Wait("all of them", lastShown+` === "message 10399" && made <= 400 * 6 && `+atEnd+" && "+fewNodes)

	// Everything is there for somebody who scrolls back, page by page, and the way forward again.
	v.Do(`window.seen = new Set()`)
	scroll := func(what, step, until string) {
		t.Helper()
		v.Wait(what, `($$("#rows .text").forEach((text) => seen.add(text.textContent)), $("#log").scrollTop `+step+`, `+until+` && `+fewNodes+`)`)
	}
	scroll("some way back", `-= 900`, `seen.has("message 10000")`)
	scroll("the end again", `+= 900`, `$("#latest").hidden && `+lastShown+` === "message 10399"`)
	v.Wait("all were shown", `[...Array(400).keys()].every((n) => seen.has("message " + (10000 + n)))`)

	found := func(text string) {
		t.Helper()
		v.Wait("found "+text, are("#rows .found .text", text)+` && (box => box.top >= 0 && box.bottom <= innerHeight)($("#rows .found").getBoundingClientRect())`)
	}
	v.Do(`$("#find-open").click()`)
	v.Write("MESSAGE 12")
	found("message 1299")
	v.Press(browsertest.Enter)
	found("message 1298")
	v.Click("#find-next")
	found("message 1299")
	v.Do(`$("#find-text").select()`)
	v.Write("message 7 nowhere")
	v.Wait("not found", `$("#find-result").textContent === "Not found"`)
	v.Press(browsertest.Escape)
	v.Wait("closed", `$("#find").hidden && !$(".found") && `+fewNodes)

	// The bound holds for what is dearest to show, too.
	v.Press(browsertest.Escape) // to the end
	links := strings.Repeat("http://a.test/ ", 400)
	for i := range 100 {
		v.send(hello(20_000+i, links))
	}
	v.Do(`for (let i = 0; i < 41; i++) { $("#text").value = "waiting " + i; $("#composer").requestSubmit(); }`)
	v.Wait("enough", `$("#hint").textContent === "Too many messages are waiting." && $("#text").value === "waiting 40" && $("#rows a") && `+fewNodes)
}

func TestReading(t *testing.T) {
	v := visitLive(t, event{"where": "laptop"}, crowd(0, 300)...)
	v.Wait("the end", lastShown+` === "message 299" && `+atEnd)
	v.Wait("somebody who reads", scrolledUp+` && $("#latest").textContent === "Latest messages"`)
	v.Do(`window.before = ` + topRow)
	v.send(crowd(300, 3)...)
	v.Wait("the news are told", `$("#latest").textContent === "3 new messages" && document.title === "(3) Connected to Pod pod-a"`)
	v.send(crowd(303, 500)...)
	v.Wait("many more", `document.title === "(503) Connected to Pod pod-a"`)
	v.Do(`$("#text").style.height = "8rem"; new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
	v.Wait("the reader was not moved", topRow+` === before`)
	v.Click("#latest")
	v.Wait("the first of the news is in view, under the line that says so", `(row => row?.querySelector(".text").textContent === "message 300" &&
		row.getBoundingClientRect().top > 0 && row.getBoundingClientRect().bottom < innerHeight)($("#rows .marker")?.parentElement) && !$("#latest").hidden`)
	v.Click("#latest")
	v.Wait("the end, and nothing unread", lastShown+` === "message 802" && `+atEnd+` && $("#latest").hidden && document.title === "Connected to Pod pod-a"`)
	v.Wait("the very beginning", `($("#log").scrollTop = 0, `+firstShown+` === "message 0" && $("#rows .day")) && `+
		`$("#log-start-text").textContent.startsWith("The topic begins here.") && !`+offersOlder)
}

// TestHiddenAndFrozenTab: a hidden page counts what is unread, and a frozen one does not pretend to be there.
func TestHiddenAndFrozenTab(t *testing.T) {
	v := visitPod(t)
	v.live(nil, crowd(0, 3)...)
	v.Hide(true)
	v.Wait("hidden", `document.hidden`)
	v.Do(`$("#text").value = "mine"; $("#composer").requestSubmit()`)
	v.send(v.expect("mine")[0].echo(3)) // is not news
	v.send(crowd(4, 2)...)
	v.Wait("unread messages in the title, without animation frames", `document.title === "(2) Connected to Pod pod-a" && `+lastShown+` === "message 5"`)
	v.Hide(false)
	v.Wait("read", `!document.hidden && document.title === "Connected to Pod pod-a" && $(".marker").parentElement.querySelector(".text").textContent === "message 4"`)

	mine := v.say("not acked")[0]
	v.Freeze(true)
	v.waitClosed()
	v.Freeze(false)
	v.acceptAfter(5)
	v.live(nil, hello(6, "while you were away"))
	v.expectAgain(mine)
	v.Wait("nothing lost, nothing twice", shown("message 0", "message 1", "message 2", "mine", "message 4", "message 5", "while you were away", "not acked"))
}

// TestOlder reads on to what the pod has, and says where its memory ends. Who reads is not moved.
func TestOlder(t *testing.T) {
	oldest := 500
	v := visitLive(t, event{"where": "laptop"}, crowd(oldest, 100)...)
	atStart := func() string {
		return fmt.Sprintf(`($("#log").scrollTop = 0, `+firstShown+` === "message %d")`, oldest)
	}
	for _, first := range []int{300, 250} {
		v.Wait("the upper end", atStart()+" && "+offersOlder)
		where := fmt.Sprintf(`Math.round($$("#rows .message").find((row) => row.querySelector(".text").textContent === "message %d")
			.getBoundingClientRect().top)`, oldest)
		v.Do(`window.before = ` + where)
		v.Do(`$("#older").click()`)
		v.accept()
		if v.asked.Get("before") != position(oldest) || v.asked.Get("last") != "200" {
			t.Errorf("the page asked for %v", v.asked)
		}
		v.welcome(nil)
		if first == 250 {
			v.send(event{"type": "gap"})
		}
		v.send(append(crowd(first, oldest-first), live())...)
		v.waitClosed()
		v.Wait("older ones above", fmt.Sprintf(`$("#older").textContent !== "Reading…" && `+firstShown+` !== "message %d"`, oldest))
		v.Wait("the reader was not moved", `Math.abs(before - `+where+`) <= 2`)
		oldest = first
	}
	v.Wait("no more", atStart()+" && "+memoryBegins+" && !"+offersOlder+` && $$("#rows .day").length === 1`)
}
