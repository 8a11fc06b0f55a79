//go:build long

package page_test

import (
	"fmt"
	"testing"
)

// TestPictures makes the pictures of the README, page.png and phone.png, and others for somebody who changes the design.
func TestPictures(t *testing.T) {
	pod := newPod(t, "chatserver-7d9f-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"pod": "chatserver-7d9f-a", "where": "cluster"})
	socket.send(pods(at("chatserver-7d9f-a", 3, 110, 110), at("chatserver-7d9f-k", 2, 110, 110), at("chatserver-7d9f-x", 1, 98, 110)))
	socket.send(conversation()...)
	socket.send(live())
	tab.Wait("the conversation", isLive)
	tab.Do(`const name = document.querySelector("#name"); name.value = "Ada"; name.dispatchEvent(new Event("input"))`)
	tab.Click("#how")

	// A message under way, stopped in the middle of the picture.
	tab.Emulate(1180, 640, false)
	say(tab, "Scaling up to three now. Watch the strip at the top.")
	mine := socket.expect("Scaling up to three now. Watch the strip at the top.")[0]
	echo := mine.echo(110)
	echo["pod"] = "chatserver-7d9f-a"
	tab.Do(`const animate = Element.prototype.animate; Element.prototype.animate = function (...how) {
		const made = animate.apply(this, how); made.pause(); made.currentTime = 600; return made; }`)
	socket.send(mine.ack(110), echo)
	tab.Wait("the message", `document.querySelectorAll("#rows .mine").length === 1 && document.querySelectorAll("#figures dd").length === 2`)
	tab.Screenshot("page")
	tab.Do(`document.getAnimations().forEach((animation) => animation.cancel())`)
	tab.Click("#how")

	for _, size := range []struct {
		name          string
		width, height int64
	}{{"phone", 360, 680}, {"small", 320, 568}, {"laptop-at-200", 640, 400}, {"desktop", 1280, 800}, {"projector-at-200", 960, 540}, {"wide", 1920, 1080}} {
		for _, dark := range []bool{false, true} {
			if name := fmt.Sprintf("%s-%s", size.name, map[bool]string{false: "light", true: "dark"}[dark]); name == "phone-dark" {
				tab.Picture("phone", size.width, size.height, dark)
			} else {
				tab.Picture(name, size.width, size.height, dark)
			}
		}
	}
	tab.Emulate(1280, 800, false)
	tab.Media("forced-colors", "active")
	tab.Screenshot("forced-colors")
	tab.Emulate(360, 680, true)
	tab.Click("#how")
	tab.Screenshot("panel-phone")
	tab.Click("#panel-close")

	tab.Emulate(1000, 720, false)
	say(tab, "This one is refused", "This one waits")
	waiting := socket.expect("This one is refused", "This one waits")
	socket.send(event{"type": "reject", "id": waiting[0].ID, "reason": "Kafka refused the record: message too large"})
	socket.send(event{"type": "status", "kafka": "down"}, event{"type": "gap", "missing": 12})
	tab.Do(`[...document.querySelectorAll("#rows .when")].at(-1).click()`)
	tab.Wait("refusal and banner", `document.querySelector("[data-state=refused]") && document.querySelector("[data-state=unsure]") && document.querySelector("#banners .kafka")`)
	tab.Screenshot("trouble")
	pod.door.Store(503)
	socket.cut()
	tab.Wait("closed", isClosed+` && document.querySelector("#trouble").textContent`)
	say(tab, "And this was written without a connection")
	tab.Screenshot("closed")
}
