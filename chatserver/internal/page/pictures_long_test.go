//go:build long

package page_test

import "testing"

// TestPictures makes the pictures of the README, page.png and phone.png.
func TestPictures(t *testing.T) {
	v := visitPod(t)
	v.welcome(event{"pod": "chatserver-7d9f-a", "where": "cluster"})
	v.send(pods(at("chatserver-7d9f-a", 3, 110, 110), at("chatserver-7d9f-k", 2, 110, 110), at("chatserver-7d9f-x", 1, 98, 110)))
	v.send(append(conversation(), live())...)
	v.Wait("the conversation", isLive)
	v.Do(`const name = $("#name"); name.value = "Ada"; name.dispatchEvent(new Event("input"))`)
	v.Click("#how")

	// A message under way, stopped in the middle of the picture.
	v.Emulate(1180, 640, false)
	mine := v.say("Scaling up to three now. Watch the strip at the top.")[0]
	echo := mine.echo(110)
	echo["pod"] = "chatserver-7d9f-a"
	v.Do(`const animate = Element.prototype.animate; Element.prototype.animate = function (...how) {
		const made = animate.apply(this, how); made.pause(); made.currentTime = 600; return made; }`)
	v.send(mine.ack(110), echo)
	v.Wait("the message", `$$("#rows .mine").length === 1 && $$("#figures dd").length === 2`)
	v.Screenshot("page")
	v.Do(`document.getAnimations().forEach((animation) => animation.cancel())`)
	v.Click("#how")

	v.Emulate(360, 680, true)
	v.Screenshot("phone")
}
