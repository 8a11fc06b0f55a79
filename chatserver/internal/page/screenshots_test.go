package page_test

import (
	"fmt"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// TestScreenshots makes the pictures of the README, and gives somebody who changes the design something to look at.
func TestScreenshots(t *testing.T) {
	pod := newPod(t, "chatserver-7d9f-a")
	tab := browsertest.Start(t).Open(pod.url)
	socket := pod.accept()
	socket.welcome(event{"pod": "chatserver-7d9f-a"})
	socket.send(event{"type": "pods", "pods": []event{
		{"pod": "chatserver-7d9f-a", "people": 3}, {"pod": "chatserver-7d9f-k", "people": 2}, {"pod": "chatserver-7d9f-x", "people": 1},
	}})
	socket.send(conversation()...)
	socket.send(live())
	tab.Wait("the conversation", isLive)
	tab.Do(`const name = document.querySelector("#name"); name.value = "Ada"; name.dispatchEvent(new Event("input"))`)

	say(tab, "Scaling up to three now. Watch the strip at the top.")
	first := socket.expect("Scaling up to three now. Watch the strip at the top.")[0]
	echo := first.echo(120)
	echo["pod"] = "chatserver-7d9f-a"
	socket.send(first.ack(120), echo)
	tab.Wait("the message", `document.querySelectorAll("#rows .mine").length === 1`)

	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1000, 720}, {"phone", 360, 680}, {"small", 320, 480}, {"wide", 1600, 900}} {
		for _, dark := range []bool{false, true} {
			tab.Emulate(size.width, size.height, dark)
			tab.Do(`new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))`)
			tab.Screenshot(fmt.Sprintf("%s-%s", size.name, map[bool]string{false: "light", true: "dark"}[dark]))
		}
	}

	tab.Click("#how")
	tab.Wait("the panel", `document.querySelectorAll("#figures dd").length === 2`)
	tab.Emulate(1040, 660, false)
	tab.Screenshot("panel-light")
	tab.Emulate(1600, 900, true)
	tab.Screenshot("panel-dark")
	tab.Emulate(360, 680, true)
	tab.Screenshot("panel-phone")
	tab.Click("#how")

	tab.Emulate(1000, 720, false)
	say(tab, "This one is refused", "This one waits")
	waiting := socket.expect("This one is refused", "This one waits")
	socket.send(event{"type": "reject", "id": waiting[0].ID, "reason": "Kafka refused the record: message too large"})
	socket.send(event{"type": "status", "kafka": "down"}, event{"type": "gap", "missing": 12})
	tab.Do(`[...document.querySelectorAll("#rows .when")].at(-1).click()`)
	tab.Wait("refusal and banner", `document.querySelector("[data-state=refused]") && document.querySelector("[data-state=unsure]") && document.querySelector("#banners .kafka")`)
	tab.Screenshot("trouble")
	socket.cut()
	tab.Wait("closed", isClosed)
	say(tab, "And this was written without a connection")
	tab.Screenshot("closed")
}

func conversation() []event {
	at := time.Now().Add(-26 * time.Hour)
	var events []event
	add := func(after time.Duration, name, text string) {
		at = at.Add(after)
		e := record(100+len(events), fmt.Sprintf("conversation-%04d", len(events)), name, text)
		e["time"] = at.UTC().Format(time.RFC3339Nano)
		events = append(events, e)
	}
	add(0, "Grace", "Did everybody get the lab running?")
	add(time.Minute, "Linus", "Yes. One pod so far: kubectl get pods shows chatserver-7d9f-a.")
	add(25*time.Hour, "Grace", "Good morning 👋")
	add(10*time.Second, "Grace", "Today we scale it. The manifest is at https://example.org/lab08/chatserver.yaml")
	add(40*time.Second, "Linus", "```\nkubectl scale deployment chatserver --replicas=3\n```")
	add(30*time.Second, "مريم", "مرحبا بالجميع! هل تعمل الرسائل من اليمين إلى اليسار؟")
	add(20*time.Second, "Barbara", "They do. And my messages came through another pod than yours:\nsame order on both screens.")
	add(5*time.Second, "Barbara", "🎉")
	at = at.Add(9 * time.Second)
	events = append(events, record(100+len(events), "", "", "a line from kafkawrite"))
	return events
}
