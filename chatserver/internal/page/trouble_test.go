package page_test

import (
	"testing"
)

// TestTrouble: when no websocket comes about, the page asks by HTTP, and says what it got and what can be done.
func TestTrouble(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"where": "laptop"})
	socket.send(live(), record(1, "somebody-else-0001", "Ann", "hello"), event{"type": "status", "kafka": "down"})
	tab.Wait("live", isLive+" && "+shown("hello"))
	tab.Do(`Math.random = () => 0.02`) // pauses are short
	said := func(want string) string {
		return isClosed + ` && document.querySelector("#trouble").textContent.trim() === ` + js(want)
	}
	pod.door.Store(400)
	socket.cut()
	tab.Wait("a proxy", said("HTTP answers (400), but no websocket comes about. A proxy on the way must pass on the headers Host, Upgrade and Connection."))
	tab.Wait("what is old looks old", `getComputedStyle(document.querySelector("#map")).opacity < 1 && getComputedStyle(document.querySelector("#banners")).opacity < 1`)
	pod.door.Store(403)
	tab.Wait("the host", said("The pod takes no connection from here (403). because the test says so"))
	pod.door.Store(503)
	tab.Wait("not ready", said("No pod is ready (503). because the test says so"))
	tab.Do(`const real = fetch; window.fetch = () => Promise.reject(new TypeError())`)
	tab.Wait("nothing, on a laptop", said("Nothing answers at "+pod.host()+". If its pod has stopped, start it again in its terminal: this page goes on where it was."))
	tab.Do(`window.fetch = real`)
	pod.door.Store(0)
	socket = pod.accept()
	socket.open()
	tab.Wait("all is well", isLive+` && document.querySelector("#trouble").textContent === "" && getComputedStyle(document.querySelector("#map")).opacity === "1"`)
}

// TestMoves: that nothing was missed is said when it is known, and moves do not pile up.
func TestMoves(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("live", isLive+" && "+shown("hello"))
	notes := func(want string) string {
		return `[...document.querySelectorAll("#rows .note")].map((note) => note.textContent).join("|") === ` + js(want)
	}
	for _, name := range []string{"pod-b", "pod-c"} {
		socket.cut()
		socket = pod.accept()
		socket.welcome(event{"pod": name})
		tab.Wait("not known yet", `document.querySelector("#connection").dataset.state === "replaying" && !`+noted(name))
		socket.send(live())
		tab.Wait("one line", isLive+" && "+notes("You are on "+name+" now. Nothing was missed."))
	}
	socket.cut()
	socket = pod.accept()
	socket.welcome(event{"pod": "pod-d"})
	socket.send(event{"type": "gap", "missing": 3}, live())
	tab.Wait("something was missed", isLive+" && "+noted("3 messages are missing")+" && !"+noted("pod-d"))
	tab.Reload()
	socket = pod.accept()
	socket.welcome(event{"pod": "pod-e"})
	socket.send(live())
	tab.Wait("also after a reload", isLive+" && "+noted("You are on pod-e now"))
}

// TestNewMessagesInTwoSteps: first to the first of them, then to the end.
func TestNewMessagesInTwoSteps(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(crowd(0, 100)...)
	tab.Wait("live", isLive+` && `+lastShown+` === "message 99"`)
	tab.Wait("somebody who reads", scrolledUp)
	socket.send(crowd(100, 150)...)
	tab.Wait("the news", `document.querySelector("#latest").textContent === "150 new messages"`)
	tab.Click("#latest")
	tab.Wait("the first of them is in view", `(row => row && row.querySelector(".text").textContent === "message 100" && row.getBoundingClientRect().top > 0 && row.getBoundingClientRect().bottom < innerHeight)(document.querySelector("#rows .marker")?.parentElement)
		&& !document.querySelector("#latest").hidden`)
	tab.Click("#latest")
	tab.Wait("the end", `document.querySelector("#latest").hidden && `+lastShown+` === "message 249" && `+belowPX+` <= 1`)
}

// TestWaitingForKafka: a pod without Kafka is not to blame, and says what it waits for.
func TestWaitingForKafka(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"where": "laptop", "kafka": "down"})
	socket.send(event{"type": "status", "kafka": "down", "reason": "Kafka is not reachable"})
	tab.Wait("what it waits for", `document.querySelector("#connection-text").textContent === "Waiting for Kafka…" &&
		document.querySelector("#banners .kafka").textContent === "Kafka is not reachable. What you write waits here until Kafka takes it."`)
	socket.send(event{"type": "status", "kafka": "up"})
	tab.Wait("Kafka is there", `document.querySelector("#connection-text").textContent === "Catching up…"`)
}

// TestNothingOlder: what cannot be there is not offered.
func TestNothingOlder(t *testing.T) {
	t.Parallel()
	for first, want := range map[int]string{0: "The topic begins here.", 500: "The memory of this pod begins here."} {
		pod := newPod(t, "pod-a")
		tab := open(t, pod.url)
		socket := pod.accept()
		socket.welcome(event{"where": "laptop"})
		socket.send(crowd(first, 3)...)
		socket.send(live())
		tab.Wait(want, isLive+` && document.querySelector("#log-start-text").textContent.startsWith(`+js(want)+`) && !document.querySelector("#older").checkVisibility({ visibilityProperty: true })`)
	}
}
