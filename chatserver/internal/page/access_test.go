package page_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// TestTranslatedPage: a browser that translates wraps each text in elements of its own.
func TestTranslatedPage(t *testing.T) {
	t.Parallel()
	v := visitLive(t, nil, record(1, "somebody-else-0001", "Ann", "hello"))
	v.send(event{"type": "reject", "id": v.say("refuse me")[0].ID, "reason": "no"})
	v.Wait("the refusal", state("refuse me", "Refused: no"))
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
	v.Click(`#pending button[value="again"] font`)
	v.expect("refuse me")
	v.Click("#how font")
	v.Wait("the panel", `!$("#panel").hidden`)
	v.Wait("the translation stays", `$("#connection-text font")`)
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
	v.send(mine[0].echo(201), mine[0].ack(201), event{"type": "reject", "id": mine[1].ID, "reason": "no"}, event{"type": "gap", "missing": 2})
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
	pods := map[string]string{"Grace": "a", "Linus": "k", "مريم": "x", "Barbara": "x"}
	at := time.Now().Add(-26 * time.Hour)
	var events []event
	for _, said := range []struct {
		after      time.Duration
		name, text string
	}{
		{0, "Grace", "Did everybody get the lab running?"},
		{time.Minute, "Linus", "Yes. One pod so far: kubectl get pods shows chatserver-7d9f-a."},
		{25 * time.Hour, "Grace", "Good morning"},
		{10 * time.Second, "Grace", "Today we scale it. The manifest is at https://example.org/lab08/chatserver.yaml"},
		{40 * time.Second, "Linus", "```\nkubectl scale deployment chatserver --replicas=3\n```"},
		{30 * time.Second, "مريم", "مرحبا بالجميع! هل تعمل الرسائل من اليمين إلى اليسار؟"},
		{20 * time.Second, "Barbara", "They do. And my messages came through another pod than yours:\nsame order on both screens."},
		{5 * time.Second, "Barbara", "It works."},
	} {
		at = at.Add(said.after)
		e := record(100+len(events), fmt.Sprintf("conversation-%04d", len(events)), said.name, said.text)
		e["time"], e["pod"] = at.UTC().Format(time.RFC3339Nano), "chatserver-7d9f-"+pods[said.name]
		events = append(events, e)
	}
	return append(events, record(100+len(events), "", "", "a line from kafkawrite"))
}
