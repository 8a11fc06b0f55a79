package page_test

import (
	"encoding/json"
	"testing"

	"kafkachat/chatserver/internal/browsertest"
)

// Conditions that many tests wait for.
const (
	isLive   = `document.querySelector("#connection").dataset.state === "live"`
	isClosed = `document.querySelector("#connection").dataset.state === "closed"`
)

// shown is a condition: these are the texts of the conversation, own waiting messages included, in this order.
func shown(texts ...string) string {
	if texts == nil {
		texts = []string{}
	}
	return `JSON.stringify([...document.querySelectorAll("#log .text")].map((text) => text.textContent)) === JSON.stringify(` + string(must(json.Marshal(texts))) + `)`
}

// chips is a condition: the strip has these, by what can be seen, in this order.
func chips(want ...string) string {
	return `JSON.stringify([...document.querySelectorAll("#pods li")].map((chip) => [...chip.querySelectorAll("b, .people, .unit, .at, .news")].map((part) => part.textContent).filter(Boolean).join(" "))) === JSON.stringify(` +
		string(must(json.Marshal(want))) + `)`
}

// noted is a condition: the conversation has a line that contains this.
func noted(part string) string {
	return `[...document.querySelectorAll("#rows .note")].some((note) => note.textContent.includes(` + js(part) + `))`
}

// state is a condition: the waiting message with this text is in this state.
func state(text, want string) string {
	return `[...document.querySelectorAll("#pending > li")].some((row) => row.querySelector(".text").textContent === ` + js(text) +
		` && row.querySelector(".state").textContent === ` + js(want) + `)`
}

// js writes a string as JavaScript.
func js(text string) string { return string(must(json.Marshal(text))) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err) // a string cannot fail to be JSON
	}
	return value
}

// say writes texts into the composer and sends each with Enter.
func say(tab *browsertest.Tab, texts ...string) {
	for _, text := range texts {
		tab.Do(`document.querySelector("#text").focus()`)
		tab.Write(text)
		tab.Press(browsertest.Enter)
	}
}

func TestFirstVisit(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	tab.Wait("title and heading before the first event",
		`document.title === "Connected to Pod pod-a" && document.querySelector("h1").textContent === "Chatting on pod-a"`)
	if got := socket.asked.Encode(); got != "last=100" {
		t.Errorf("the first socket asked for %q, want last=100", got)
	}
	socket.open(record(7, "history-0000000001", "Ann", "hello"))
	tab.Wait("the history", isLive+" && "+shown("hello"))

	say(tab, "hi Ann")
	mine := socket.expect("hi Ann")[0]
	tab.Wait("my message at once", shown("hello", "hi Ann")+" && "+state("hi Ann", "Sending…"))
	socket.send(mine.ack(8))
	tab.Wait("its state", state("hi Ann", "Stored in Kafka"))
	socket.send(mine.echo(8))
	tab.Wait("my message in the conversation", shown("hello", "hi Ann")+` && document.querySelector("#rows .mine .state").textContent === "Stored in Kafka"`)
	tab.Wait("nothing waits", `document.querySelector("#pending").children.length === 0`)
}

func TestNameOfThePodThatTheSocketReached(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	pod.accept().welcome(event{"pod": `pod-"<b>"`})
	tab.Wait("the other pod's name", `document.title === 'Connected to Pod pod-"<b>"' && document.querySelector("h1").textContent === 'Chatting on pod-"<b>"'`)
}

func TestBannersAndStrip(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"standalone": true, "partitions": 3, "kafka": "down", "version": "of-tomorrow"})
	socket.send(live(), event{"type": "of tomorrow", "pods": 7})
	tab.Wait("the banners", `[".kafka", ".partitions", ".version"].every((name) => document.querySelector("#banners " + name))`)
	tab.Wait("standalone", `document.querySelector("#pods").textContent === "standalone: only people on this pod see you"`)
	tab.Wait("what is true of Kafka, whatever the reason", `document.querySelector("#banners .kafka").textContent.startsWith("Kafka does not take messages now.")`)

	say(tab, "waits")
	socket.expect("waits")
	tab.Wait("what it waits for", state("waits", "Waits for Kafka"))
	socket.send(event{"type": "status", "kafka": "down", "reason": "Kafka is not reachable"})
	tab.Wait("the pod's reason", `document.querySelector("#banners .kafka").textContent.startsWith("Kafka is not reachable. What")`)
	socket.send(event{"type": "status", "kafka": "up"})
	tab.Wait("Kafka is back", `!document.querySelector("#banners .kafka") && `+state("waits", "Sending…"))

	socket.cut()
	socket = pod.accept()
	socket.open()
	socket.send(event{"type": "pods", "pods": []event{{"pod": "pod-a", "people": 1}, {"pod": "<i>pod-b</i>", "people": 12}}})
	tab.Wait("the strip of an old pod, without positions", chips("pod-a 1 connected", "<i>pod-b</i> 12 connected")+` && document.querySelector("#pods [aria-current]").title === "pod-a"`)
	tab.Wait("the banners are gone", `document.querySelector("#banners").children.length === 0`)
}

func TestReloadForTheNewVersion(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"version": "of-tomorrow"})
	socket.send(live(), record(1, "history-0000000001", "Ann", "hello"))
	tab.Wait("the offer, and a page that works", shown("hello")+` && document.querySelector("#banners .version button").textContent === "Reload for the new version"`)
	tab.Click("#banners .version button")
	socket = pod.accept()
	if got := socket.asked.Get("after"); got != position(1) {
		t.Errorf("after the reload the page asked for %v, want after=%s", socket.asked, position(1))
	}
	socket.open()
	tab.Wait("the history", isLive+" && "+shown("hello"))
}

func TestHowItWorks(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	tab.Wait("live", isLive)
	tab.Click("#how")
	tab.Wait("nothing to show yet", `document.querySelector("#path").textContent === "Send a message and see the way it takes."`)
	socket.send(event{"type": "pods", "pods": []event{{"pod": "pod-a", "people": 2}, {"pod": "pod-b", "people": 3}}})
	say(tab, "measure me")
	mine := socket.expect("measure me")[0]
	socket.send(mine.echo(41), mine.ack(41))
	tab.Wait("the path", `[...document.querySelectorAll("#path li")].map((step) => step.textContent).join("|") ===
		"You|pod-b writes it|Kafka keeps it: chat, partition 0 @ 41|All 2 pods read it|5 connections are sent it"`)
	tab.Wait("the two figures", `/^\d+(\.\d)? ms\|1\.3 ms$/.test([...document.querySelectorAll("#figures dd")].map((ms) => ms.textContent).join("|"))`)
	socket.send(record(42, "somebody-else-0001", "Ann", "mine has no figures"))
	tab.Wait("another's path, without figures", `document.querySelector("#path").textContent.startsWith("Ann") && !document.querySelector("#figures").children.length`)
	tab.Click("#how")
	tab.Wait("closed", `document.querySelector("#panel").hidden && document.querySelector("#how").getAttribute("aria-expanded") === "false"`)
}

func TestHostileText(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	attack := `<img src=x onerror="document.title='owned'"><script>document.title="owned"</script>`
	link := `javascript:alert(1) https://example.org/a?b=(c)&d, data:text/html,x`
	code := "```\nif a  <b {\n\t}\n``` or `go <b>run</b>`"
	odd := record(3, "hostile-000000003", "\u202eevil", "\x00\u202e")
	odd["placeholder"] = true
	socket.open(
		record(1, "hostile-000000001", attack, attack), record(2, "hostile-000000002", "😀", link), odd,
		record(4, "hostile-000000004", "Ann", code), record(5, "", "", "a line\n  of kafkawrite"),
	)
	tab.Wait("text that stays text", shown(attack, link, "\x00\u202e", "if a  <b {\n\t} or go <b>run</b>", "a line\n  of kafkawrite"))
	tab.Wait("the name too", `document.querySelector("#rows .who").textContent === `+js(attack))
	tab.Wait("one link", `[...document.querySelectorAll("#rows a")].map((a) => a.href + " " + a.rel).join() === "https://example.org/a?b=(c)&d noopener noreferrer"`)
	tab.Wait("code", `[...document.querySelectorAll("#rows code")].map((code) => code.className).join() === "block,"`)
	tab.Wait("no element of theirs", `!document.querySelector("#log img, #log script") && document.title === "Connected to Pod pod-a"`)
	tab.Wait("who spoke", `[...document.querySelectorAll("#rows .who")].map((who) => who.textContent).slice(2).join() === "evil,Ann,kafkawrite or another program"`)
}
