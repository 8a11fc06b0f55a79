package page_test

import (
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
	return `JSON.stringify([...document.querySelectorAll("#log .text")].map((text) => text.textContent)) === ` + js(texts)
}

// say writes a text into the composer and sends it with Enter.
func say(tab *browsertest.Tab, texts ...string) {
	for _, text := range texts {
		tab.Do(`document.querySelector("#text").focus()`)
		tab.Write(text)
		tab.Press(browsertest.Enter)
	}
}

func TestFirstVisit(t *testing.T) {
	pod := newPod(t, "pod-a")
	tab := browsertest.Start(t).Open(pod.url)
	socket := pod.accept()
	if got := socket.asked.Encode(); got != "last=100" {
		t.Errorf("the first socket asked for %q, want last=100", got)
	}
	socket.open(record(7, "history-0000000001", "Ann", "hello"))
	tab.Wait("the history", isLive+" && "+shown("hello"))

	say(tab, "hi Ann")
	mine := socket.expect("hi Ann")[0]
	tab.Wait("my message at once", shown("hello", "hi Ann")+` && document.querySelector(".pending .state").textContent === "Sending…"`)
	socket.send(mine.ack(8), mine.echo(8))
	tab.Wait("my message in the conversation", shown("hello", "hi Ann")+` && document.querySelector("#rows .mine .state").textContent === "Stored in Kafka"`)
	tab.Wait("title and heading", `document.title === "Connected to Pod pod-a" && document.querySelector("h1").textContent === "Chatting on pod-a"`)
}
