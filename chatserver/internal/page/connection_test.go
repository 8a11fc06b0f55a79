package page_test

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestReconnect uses a page whose dice are known. How long pauses are, the script of client.js says.
func TestReconnect(t *testing.T) {
	v := visitLive(t, event{"where": "laptop"}, kafka("down", ""))
	v.Do(`Math.random = () => 1000`) // the next wait is of 250 s, which no test waits; a person need not sit it out
	v.cut()
	v.Wait("a countdown", isClosed+` && document.title === "Connection closed" && /^Reconnecting in \d+ s$/.test($("#countdown").textContent)`)
	v.Click("#reconnect")
	v.back(nil)
	v.Wait("the focus is where one writes", `document.activeElement.id === "text"`)

	// A pod that stops says when to come back: the page picks a moment in that time, also if somebody looks at the tab.
	v.Do(`Math.random = () => 0.5`)
	asked := time.Now()
	v.send(event{"type": "reconnect", "within_ms": 2000})
	// On a slow machine the page has closed the connection already.
	v.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1012, ""), time.Now().Add(patience))
	v.Wait("closed", isClosed)
	v.Do(`document.dispatchEvent(new Event("visibilitychange"))`)
	v.back(nil)
	if waited := time.Since(asked); waited < 990*time.Millisecond {
		t.Errorf("came back after %v, want half of the 2 s that the pod gave", waited)
	}

	// In any other pause a look at the tab is a reason to connect. On another network the old socket may be dead without knowing.
	v.Do(`Math.random = () => 1000`)
	v.cut()
	v.Wait("closed", isClosed)
	v.Do(`document.dispatchEvent(new Event("visibilitychange"))`)
	v.back(nil)
	v.Do(`window.dispatchEvent(new Event("online"))`)
	v.waitClosed()
	v.back(event{"where": "laptop"}, kafka("down", ""))

	// When no websocket comes about, the page asks by HTTP, and says what it got and what can be done.
	v.Do(`Math.random = () => 0.02`)
	opacity := `getComputedStyle($("#map")).opacity`
	v.door.Store(400)
	v.cut()
	said := func(what, want string) {
		t.Helper()
		v.Wait(what, isClosed+` && $("#trouble").textContent.trim() === `+js(want))
	}
	said("a proxy", "HTTP works (400), but the websocket does not. A proxy on the way must pass on the headers Host, Upgrade and Connection.")
	v.Wait("what is old looks old", opacity+` < 1 && getComputedStyle($("#banners")).opacity < 1`)
	v.door.Store(403)
	said("the host", "The pod refuses the connection (403). because the test says so")
	v.door.Store(503)
	said("not ready", "No pod is ready (503). because the test says so")
	v.door.Store(-1)
	said("nothing, on a laptop", "Nothing answers at "+v.server.Listener.Addr().String()+
		". If the pod has stopped, start the pod again in its terminal. This page then goes on at its last message.")
	v.door.Store(0)
	v.back(nil)
	v.Wait("all is well", `$("#trouble").textContent === "" && `+opacity+` === "1"`)
	v.Wait("a pod has been stopped, and nothing missed", `sessionStorage["kafkachat.done"] === '["stop"]'`)
}

// TestBanners says what concerns everybody.
func TestBanners(t *testing.T) {
	v := visitLive(t, event{"standalone": true, "partitions": 3, "kafka": "down", "version": "of-tomorrow"}, event{"type": "of tomorrow", "pods": 7})
	v.Wait("the banners", `[".kafka", ".partitions", ".version"].every((name) => $("#banners " + name))`)
	v.Wait("standalone", are("#pods", "standalone: your messages go only to the Kafka inside this pod"))
	v.say("waits")
	v.Wait("what is true of Kafka, whatever the reason", state("waits", "Waits for Kafka")+" && "+
		are("#banners .kafka", "Kafka does not take messages now. Your messages wait here until Kafka takes them."))
	v.send(kafka("up", ""))
	v.Wait("Kafka is back", `!$("#banners .kafka") && `+state("waits", "Sending…"))
	v.send(hello(1, "hello"))
	v.Wait("the offer, and a page that works", shown("hello", "waits")+` && $("#banners .version button").textContent === "Reload for the new version"`)
	v.Click("#banners .version button")
	v.acceptAfter(1)
	v.live(nil)
	v.Wait("the history, and no banners", shown("hello", "waits")+` && $("#banners").children.length === 0`)
}

// TestMovesAndReloads: that nothing was missed is said when it is known. A page keeps everything over a reload; what another
// version has kept is forgotten, and the page works, also where nothing can be kept.
func TestMovesAndReloads(t *testing.T) {
	v := visitLive(t, nil, hello(1, "hello"))
	for _, name := range []string{"pod-b", "pod-c"} {
		v.cut()
		v.accept()
		v.welcome(event{"pod": name})
		v.Wait("not known yet", `$("#connection").dataset.state === "replaying" && !`+noted(name))
		v.send(live())
		v.Wait("one line", isLive+" && "+are("#rows .note", "You are on "+name+" now. Nothing was missed.")+` && document.title === "Connected to Pod `+name+`"`)
		v.Wait("who moves has stopped a pod", `sessionStorage["kafkachat.done"] === '["stop"]'`)
	}
	v.cut()
	v.back(event{"pod": "pod-d"}, event{"type": "gap", "missing": 3})
	v.Wait("something was missed", noted("3 messages are missing")+" && !"+noted("pod-d"))

	v.Click("#name")
	v.Write("Zoë 🎈")
	mine := v.say("mine", "not acked")
	v.send(mine[0].echo(2), mine[0].ack(2))
	v.Wait("one is stored, and kept in case the browser ends now", `$$("#rows .mine").length === 1 && sessionStorage["kafkachat.conversation"]?.includes('"text":"mine"')`)
	v.Do(`$("#text").focus()`)
	v.Write("half a senten")
	v.Reload()
	v.acceptAfter(2)
	v.Wait("everything is back before the pod says a word", shown("hello", "mine", "not acked")+` && $("#name").value === "Zoë 🎈" && $("#text").value === "half a senten"`)
	v.live(event{"pod": "pod-e"})
	v.expectAgain(mine[1])
	v.send(mine[1].echo(3))
	v.Wait("nothing twice", shown("hello", "mine", "not acked")+` && `+noted("You are on pod-e now")+
		` && $$("#rows .mine").length === 2 && $$("#rows .day").length === 1`)

	const full = `Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError") }`
	for _, kept := range []string{`{"position":"1","lastOffset":1,"items":[{"kind":"message"}]}`, `{"position":"1","lastOffset":1,"items":7}`, `[1]`, `7`, `{`} {
		v.Do(`window.keep ??= Storage.prototype.setItem;
			for (const [area, keys] of [[sessionStorage, ["conversation", "outbox", "sent", "draft", "done", "panel"]], [localStorage, ["name", "guest"]]])
				for (const key of keys) window.keep.call(area, "kafkachat." + key, ` + js(kept) + `);` + full)
		v.Reload()
		v.accept()
		if !v.asked.Has("last") {
			t.Errorf("with %s the page asked for %v", kept, v.asked)
		}
		v.Do(`window.keep = Storage.prototype.setItem;` + full)
		v.live(nil, hello(1, "hello"))
		v.send(v.say("mine")[0].echo(2))
		v.Wait("the page works with "+kept, shown("hello", "mine"))
	}
}
