//go:build long

package page_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"kafkachat/chatserver/internal/browsertest"
)

// A firefox is a page in Firefox, driven by WebDriver BiDi through testdata/firefox.mjs.
type firefox struct {
	t       *testing.T
	orders  io.Writer
	answers *bufio.Scanner
}

// openFirefox opens a page. It needs firefox-esr or firefox, node, and PUPPETEER_CORE: the folder whose node_modules has
// the npm package puppeteer-core.
func openFirefox(t *testing.T, url string) *firefox {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		path, err = exec.LookPath("firefox")
	}
	if core := os.Getenv("PUPPETEER_CORE"); err != nil || core == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Firefox (%v) or no PUPPETEER_CORE (%q), and CI must not skip", err, core)
		}
		t.Skip("no Firefox, or PUPPETEER_CORE does not name the folder whose node_modules has puppeteer-core")
	}
	node := exec.Command("node", "testdata/firefox.mjs", path)
	node.Stderr = os.Stderr
	orders, err1 := node.StdinPipe()
	answers, err2 := node.StdoutPipe()
	if err := errors.Join(err1, err2, node.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		orders.Close()
		node.Wait()
	})
	f := &firefox{t: t, orders: orders, answers: bufio.NewScanner(answers)}
	f.order("open", url)
	f.order("value", "(() => {"+browsertest.Helpers+"})()")
	return f
}

func (f *firefox) order(verb, with string) any {
	f.t.Helper()
	if err := json.NewEncoder(f.orders).Encode(map[string]string{"do": verb, "with": with}); err != nil {
		f.t.Fatal(err)
	}
	var answer struct {
		Value any
		Error string
	}
	if !f.answers.Scan() || json.Unmarshal(f.answers.Bytes(), &answer) != nil || answer.Error != "" {
		f.t.Fatalf("%s %s: %q %v", verb, with, f.answers.Bytes(), f.answers.Err())
	}
	return answer.Value
}

func (f *firefox) wait(what, condition string) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); f.order("value", "Boolean("+condition+")") != true; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %v for: %s\nthe page shows %v", patience, what, f.order("value", "document.body.innerText"))
		}
	}
}

// TestFirefox: a person in Firefox misses nothing, also after a minute away.
func TestFirefox(t *testing.T) {
	v := newVisit(t)
	page := openFirefox(t, v.url)
	v.accept()
	v.welcome(event{"where": "laptop"})
	v.send(hello(1, "hello"), live())
	page.wait("the history", isLive+" && "+shown("hello"))
	page.order("value", `$("#text").focus()`)
	page.order("type", "not acked")
	page.order("press", "Enter")
	mine := v.expect("not acked")[0]
	page.wait("my message at once", state("not acked", "Sending…"))
	v.cut()
	v.acceptAfter(1)
	v.welcome(nil)
	v.send(hello(2, "missed"), live())
	v.expectAgain(mine)
	v.send(mine.echo(3))
	page.wait("everything once", isLive+" && "+shown("hello", "missed", "not acked")+` && $$("#rows .mine").length === 1`)

	// Firefox delays websockets to an address where many have failed, up to a minute. The page asks by
	// HTTP instead, so it is back within its own longest pause.
	v.server.CloseClientConnections()
	v.server.Close()
	v.cut()
	page.wait("what the page says", `$("#trouble").textContent.startsWith("Nothing answers at")`)
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
	page.wait("live again", isLive)
	if took := time.Since(back); took > 25*time.Second {
		t.Errorf("back after %v, the longest pause is 10 s", took)
	}
}
