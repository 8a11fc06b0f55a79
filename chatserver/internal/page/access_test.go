package page_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(crowd(0, 50)...)
	tab.Wait("live, ready to write", isLive+` && `+lastShown+` === "message 49" && document.activeElement.id === "text"`)

	// Backwards from the text: name, the newest message's button, the log, the pods, the panel's button. Fifty messages are one stop.
	focusOn := func(what, condition string) {
		t.Helper()
		tab.Press(browsertest.Tabulator, browsertest.Shift)
		tab.Wait("the focus on "+what, condition)
	}
	focusOn("the name", `document.activeElement.id === "name"`)
	focusOn("the newest message", `document.activeElement.closest("#rows li")?.querySelector(".text").textContent === "message 49"`)
	tab.Press(browsertest.ArrowUp)
	tab.Press(browsertest.ArrowUp)
	tab.Press(browsertest.ArrowDown)
	tab.Wait("the arrows walk", `document.activeElement.closest("#rows li").querySelector(".text").textContent === "message 48"`)
	tab.Press(browsertest.Enter)
	tab.Wait("where it came from", `document.activeElement.getAttribute("aria-expanded") === "true" &&
		document.querySelector("#rows .origin").textContent.endsWith("through pod-b, stored at chat, partition 0 @ 48")`)
	tab.Press(browsertest.Enter)
	tab.Wait("closed again", `!document.querySelector("#rows .origin")`)
	focusOn("the log", `document.activeElement.id === "log"`)
	focusOn("the pods, which may need scrolling", `document.activeElement.id === "pods"`)
	focusOn("the panel's button", `document.activeElement.id === "how"`)
	tab.Press(browsertest.Enter)
	tab.Wait("the panel", `!document.querySelector("#panel").hidden`)
}

func TestScreenReader(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(nil)
	tab.Wait("a replay is not read out", `document.querySelector("#log[role=log]").getAttribute("aria-busy") === "true"`)
	socket.send(crowd(0, 3)...)
	socket.send(live())
	tab.Wait("news are", isLive+` && document.querySelector("#log").getAttribute("aria-busy") === "false"`)
	tab.Wait("the connection is told", `document.querySelector("#connection-text[role=status]").textContent === "Connected"`)
	say(tab, "refuse me")
	socket.send(event{"type": "reject", "id": socket.expect("refuse me")[0].ID, "reason": "no"})
	tab.Wait("a refusal is told", `document.querySelector("#announcer[role=status]").textContent === "Refused: no"`)
}

// TestAxe lets axe-core look at the page in its states. AXE_CORE is the path of its axe.min.js.
func TestAxe(t *testing.T) {
	path := os.Getenv("AXE_CORE")
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("AXE_CORE is not set, and CI must not skip: it is the path of axe.min.js from the npm package axe-core")
		}
		t.Skip("AXE_CORE is not set: it is the path of axe.min.js from the npm package axe-core")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	tab.Do(string(axe))
	check := func(state string) {
		t.Helper()
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 360} {
				tab.Emulate(width, 700, dark)
				tab.Wait("no animation under way", `document.getAnimations().length === 0`)
				for _, violation := range browsertest.Value[[]string](tab, `axe.run().then((result) => result.violations.map((violation) =>
					violation.id + ": " + violation.help + " " + violation.nodes.map((node) => node.html + " " + node.failureSummary).join(" | ")))`) {
					t.Errorf("%s, dark %v, %d px wide: %s", state, dark, width, violation)
				}
			}
		}
	}

	socket := pod.accept()
	socket.welcome(event{"standalone": true, "partitions": 2, "version": "of-tomorrow"})
	socket.send(live())
	tab.Wait("nothing said yet", isLive+` && !document.querySelector("#empty").hidden`)
	check("empty")

	socket.send(conversation()...)
	socket.send(event{"type": "pods", "pods": []event{{"pod": "pod-a", "people": 3}, {"pod": "pod-b", "people": 2}}}, event{"type": "gap"})
	placeholder := record(200, "placeholder-000001", "Ann", "a record that is not text")
	placeholder["placeholder"] = true
	socket.send(placeholder, event{"type": "status", "kafka": "down"})
	say(tab, "stored", "refused", "unsure", "waiting")
	mine := socket.expect("stored", "refused", "unsure", "waiting")
	socket.send(mine[0].echo(201), mine[0].ack(201), event{"type": "reject", "id": mine[1].ID, "reason": "no"}, event{"type": "gap", "missing": 2})
	say(tab, "sending")
	tab.Click("#how")
	tab.Do(`document.querySelector("#rows .when").click()`)
	tab.Wait("all states", `document.querySelector("#rows .mine, #rows .origin") && document.querySelector("[data-state=refused]") && document.querySelector("[data-state=unsure]")`)
	check("everything at once")

	tab.Click("#how")
	tab.Do(`document.querySelector("#log").scrollTop = 0`)
	socket.cut()
	tab.Wait("closed, reading", isClosed+` && !document.querySelector("#latest").hidden`)
	check("closed")
}

// conversation is what the pictures show.
func conversation() []event {
	at := time.Now().Add(-26 * time.Hour)
	var events []event
	add := func(after time.Duration, name, text string) {
		at = at.Add(after)
		e := record(100+len(events), fmt.Sprintf("conversation-%04d", len(events)), name, text)
		e["time"] = at.UTC().Format(time.RFC3339Nano)
		e["pod"] = "chatserver-7d9f-" + map[string]string{"Grace": "a", "Linus": "k", "مريم": "x", "Barbara": "x"}[name]
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
