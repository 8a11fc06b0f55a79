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

func (f *firefox) wait(what, condition string, patience time.Duration) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); f.order("value", "Boolean("+condition+")") != true; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %v for: %s\nthe page shows %v", patience, what, f.order("value", "document.body.innerText"))
		}
	}
}

func (f *firefox) say(text string) {
	f.t.Helper()
	f.order("value", `$("#text").focus()`)
	f.order("type", text)
	f.order("press", "Enter")
}

// TestFirefox has three parts, one after another in one page.
func TestFirefox(t *testing.T) {
	v := &visit{t: t, pod: newPod(t)}
	page := openFirefox(t, v.pod.url)
	v.accept()
	v.welcome(event{"where": "laptop"})
	v.send(record(1, "somebody-else-0001", "Ann", "hello"), live())
	page.wait("the history", isLive+" && "+shown("hello"), patience)
	part := func(name string, run func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			v.t, page.t = t, t
			run(t)
		})
	}
	part("sending", func(*testing.T) {
		page.say("hi Ann")
		mine := v.expect("hi Ann")[0]
		page.wait("my message at once", state("hi Ann", "Sending…"), patience)
		v.send(mine.echo(2), mine.ack(2))
		page.wait("stored", shown("hello", "hi Ann")+` && $$("#rows .mine").length === 1`, patience)
	})
	part("resuming after a kill", func(*testing.T) {
		page.say("not acked")
		mine := v.expect("not acked")[0]
		v.cut()
		v.acceptAfter(2)
		v.welcome(nil)
		v.send(record(3, "somebody-else-0003", "Ann", "missed"), live())
		v.expectAgain(mine)
		v.send(mine.echo(4))
		page.wait("everything once", isLive+" && "+shown("hello", "hi Ann", "missed", "not acked"), patience)
	})
	// Firefox delays websockets to an address where many have failed, up to a minute. The page asks by
	// HTTP instead, so it is back within its own longest pause.
	part("a minute away", func(t *testing.T) {
		v.pod.server.CloseClientConnections()
		v.pod.server.Close()
		v.cut()
		page.wait("what the page says", `$("#trouble").textContent.startsWith("Nothing answers at")`, patience)
		time.Sleep(time.Minute) // it is the time away that is tested
		back := time.Now()
		listener, err := net.Listen("tcp", v.pod.host())
		if err != nil {
			t.Fatal(err)
		}
		again := &http.Server{Handler: v.pod.server.Config.Handler}
		defer again.Close()
		go again.Serve(listener)
		v.acceptAfter(4)
		v.welcome(nil)
		v.send(live())
		page.wait("live again", isLive, patience)
		if took := time.Since(back); took > 25*time.Second {
			t.Errorf("back after %v, the longest pause is 10 s", took)
		}
	})
}
