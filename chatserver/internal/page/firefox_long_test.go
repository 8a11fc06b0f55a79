//go:build long

package page_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// openFirefox opens a page in Firefox, driven by WebDriver BiDi through testdata/firefox.mjs, and returns what does a line of
// JavaScript there. It needs firefox-esr, node, and PUPPETEER_CORE: the folder whose node_modules has the npm package puppeteer-core.
func openFirefox(t *testing.T, url string) (do func(script string)) {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil || os.Getenv("PUPPETEER_CORE") == "" {
		skip(t, "no firefox-esr, or PUPPETEER_CORE does not name the folder whose node_modules has puppeteer-core")
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
	do = func(script string) {
		t.Helper()
		fmt.Fprintln(orders, script)
		if !answers.Scan() || answers.Text() != "done" {
			t.Fatalf("%s: %s %v", script, answers.Text(), answers.Err())
		}
	}
	do(`await page.goto(` + js(url) + `); await page.evaluate(` + js("(() => {"+browsertest.Helpers+"})()") + `)`)
	return do
}

// TestFirefox: a person in Firefox misses nothing, also after a minute away.
func TestFirefox(t *testing.T) {
	v := newVisit(t)
	do := openFirefox(t, v.url)
	wait := func(condition string) {
		t.Helper()
		do(`await wait(` + js(condition) + `)`)
	}
	v.accept()
	v.welcome(event{"where": "laptop"})
	v.send(hello(1, "hello"), live())
	wait(isLive + " && " + shown("hello"))
	do(`await page.focus("#text"); await page.keyboard.type("not acked"); await page.keyboard.press("Enter")`)
	mine := v.expect("not acked")[0]
	wait(state("not acked", "Sending…"))
	v.cut()
	v.acceptAfter(1)
	v.welcome(nil)
	v.send(hello(2, "missed"), live())
	v.expectAgain(mine)
	v.send(mine.echo(3))
	wait(isLive + " && " + shown("hello", "missed", "not acked") + ` && $$("#rows .mine").length === 1`)

	// Firefox delays websockets to an address where many have failed, up to a minute. The page asks by
	// HTTP instead, so it is back within its own longest pause.
	v.server.CloseClientConnections()
	v.server.Close()
	v.cut()
	wait(`$("#trouble").textContent.startsWith("Nothing answers at")`)
	time.Sleep(time.Minute) // it is the time away that is tested
	back := time.Now()
	listener, err := net.Listen("tcp", v.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again := &http.Server{Handler: v.server.Config.Handler}
	defer again.Close()
	go again.Serve(listener)
	v.acceptAfter(3)
	v.welcome(nil)
	v.send(live())
	wait(isLive)
	if took := time.Since(back); took > 25*time.Second {
		t.Errorf("back after %v, the longest pause is 10 s", took)
	}
}
