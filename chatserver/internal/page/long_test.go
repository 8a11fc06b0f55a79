//go:build long

package page_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// TestFirefox: a person in Firefox misses nothing, also after a minute away. The test needs
// firefox-esr, node, and PUPPETEER_CORE: the folder whose node_modules has puppeteer-core.
func TestFirefox(t *testing.T) {
	path, err := exec.LookPath("firefox-esr")
	if err != nil || os.Getenv("PUPPETEER_CORE") == "" {
		t.Skip("no firefox-esr, or PUPPETEER_CORE does not name the folder whose node_modules has puppeteer-core")
	}
	node := exec.Command("node", "testdata/firefox.mjs", path)
	node.Stderr = os.Stderr
	orders, err1 := node.StdinPipe()
	output, err2 := node.StdoutPipe()
	if err := errors.Join(err1, err2, node.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		orders.Close()
		node.Wait()
	})
	answers := bufio.NewScanner(output)
	do := func(script string) {
		t.Helper()
		fmt.Fprintln(orders, script)
		if !answers.Scan() || answers.Text() != "done" {
			t.Fatalf("%s: %s %v", script, answers.Text(), answers.Err())
		}
	}
	wait := func(condition string) {
		t.Helper()
		do(`await wait(` + js(condition) + `)`)
	}
	v := newVisit(t)
	do(`await page.goto(` + js(v.server.URL+"/chat/") + `); await page.evaluate(` + js("(() => {"+browsertest.Helpers+"})()") + `)`)
	v.accept()
	v.welcome(nil)
	v.send(hello(1, "hello"), live())
	wait(isLive + " && " + shown("hello"))
	do(`await page.focus("#text"); await page.keyboard.type("not acked"); await page.keyboard.press("Enter")`)
	mine := v.expect("not acked")[0]
	wait(state("not acked", "Sending…"))

	// Firefox delays websockets to an address where many have failed, up to a minute. The page asks by
	// HTTP instead, so the page is back within its own longest pause.
	v.door.Store(-1) // The port is kept: without its listener any other test could get it.
	v.cut()
	wait(`$("#trouble").textContent.startsWith("Nothing answers at")`)
	time.Sleep(time.Minute) // the time away is what is tested
	back := time.Now()
	v.door.Store(0)
	v.acceptAfter(1)
	v.welcome(nil)
	v.send(hello(2, "missed"), live())
	v.expectAgain(mine)
	if took := time.Since(back); took > 25*time.Second {
		t.Errorf("back after %v, the longest pause is 10 s", took)
	}
	v.send(mine.echo(3))
	wait(isLive + " && " + shown("hello", "missed", "not acked") + ` && $$("#rows .mine").length === 1`)
}

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
