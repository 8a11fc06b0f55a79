package page_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// TestAxe lets axe-core look at the page in its states. AXE_CORE is the path of its axe.min.js.
func TestAxe(t *testing.T) {
	axe, err := os.ReadFile(os.Getenv("AXE_CORE"))
	if err != nil {
		t.Skipf("AXE_CORE is the path of axe.min.js from the npm package axe-core: %v", err)
	}
	v := visitPod(t)
	v.Do(string(axe))
	check := func(state string) {
		t.Helper()
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 360} {
				v.Emulate(width, 700, dark)
				v.Wait("no animation under way", `document.getAnimations().length === 0`)
				for _, violation := range browsertest.Value[[]string](v.Tab, `axe.run().then((result) => result.violations.map((violation) =>
					violation.id + ": " + violation.help + " " + violation.nodes.map((node) => node.html + " " + node.failureSummary).join(" | ")))`) {
					t.Errorf("%s, dark %v, %d px wide: %s", state, dark, width, violation)
				}
			}
		}
	}
	v.live(event{"standalone": true, "partitions": 2, "version": "of-tomorrow"})
	v.Wait("nothing said yet", `!$("#empty").hidden`)
	check("empty")

	placeholder := record(200, "placeholder-000001", "Ann", "a record that is not text")
	placeholder["placeholder"] = true
	v.send(append(conversation(), pods(event{"pod": "pod-a", "people": 3}, event{"pod": "pod-b", "people": 2}), event{"type": "gap"}, placeholder, kafka("down", ""))...)
	mine := v.say("stored", "refused", "unsure", "waiting")
	v.send(mine[0].echo(201), mine[0].ack(201), mine[1].reject("no"), event{"type": "gap", "missing": 2})
	v.write("sending")
	v.Click("#how")
	v.Do(`$("#rows .when").click()`)
	v.Wait("all states", `$("#rows .mine, #rows .origin") && $("[data-state=refused]") && $("[data-state=unsure]")`)
	check("everything at once")

	v.Click("#how")
	v.Wait("reading", scrolledUp)
	v.cut()
	v.Wait("closed", isClosed)
	check("closed")
}

// conversation is what the pictures show.
func conversation() []event {
	var events []event
	for i, said := range []struct{ name, pod, text string }{
		{"Grace", "a", "Did everybody get the lab running?"},
		{"Linus", "k", "Yes. One pod so far: kubectl get pods shows chatserver-7d9f-a."},
		{"Grace", "a", "Good morning"},
		{"Grace", "a", "Today we scale it. The manifest is at https://example.org/lab08/chatserver.yaml"},
		{"Linus", "k", "```\nkubectl scale deployment chatserver --replicas=3\n```"},
		{"مريم", "x", "مرحبا بالجميع! هل تعمل الرسائل من اليمين إلى اليسار؟"},
		{"Barbara", "x", "They do. And my messages came through another pod than yours:\nsame order on both screens."},
		{"Barbara", "x", "It works."},
	} {
		before := time.Duration(10-i) * 30 * time.Second
		if i < 2 {
			before += 24 * time.Hour
		}
		e := record(100+i, fmt.Sprintf("conversation-%04d", i), said.name, said.text)
		e["time"], e["pod"] = time.Now().Add(-before).UTC().Format(time.RFC3339Nano), "chatserver-7d9f-"+said.pod
		events = append(events, e)
	}
	return append(events, record(108, "", "", "a line from kafkawrite"))
}
