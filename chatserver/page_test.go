package main

import (
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"kafkachat/chatserver/internal/browsertest"
)

// Two people at two pods see each other, and the one whose pod goes away goes on at the other.
func TestPageOnTwoPods(t *testing.T) {
	env := onKafka(t)
	a, b := startPod(t, env("pod-a")), startPod(t, env("pod-b"))
	var at atomic.Pointer[testPod] // ann's pod. (The port of a pod that has stopped may be taken by anybody.)
	balancer := httptest.NewServer(&httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		to, _ := url.Parse(at.Load().url)
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(balancer.Close)
	at.Store(a)
	var chromium browsertest.Chromium
	t.Cleanup(chromium.Stop)
	ann, bob := chromium.Open(t, balancer.URL), chromium.Open(t, b.url)
	const connection = `document.querySelector("#connection-text").textContent`
	connected := func(tab *browsertest.Tab, pod string) {
		tab.Wait("connected to "+pod, connection+` === "Connected" && document.title.endsWith("Connected to Pod `+pod+`") &&
			document.querySelector("h1").textContent === "Chatting on `+pod+`"`)
	}
	say := func(tab *browsertest.Tab, text string) {
		tab.Do(`document.querySelector("#text").focus()`)
		tab.Write(text)
		tab.Press(browsertest.Enter)
	}
	sees := func(tab *browsertest.Tab, texts string) {
		tab.Wait(texts, `[...document.querySelectorAll("#rows .text")].map(text => text.textContent).join(", ") === "`+texts+`"`)
	}
	connected(ann, "pod-a")
	connected(bob, "pod-b")
	say(ann, "from ann")
	sees(bob, "from ann")
	say(bob, "from bob")
	sees(ann, "from ann, from bob")
	const offsets = `[...document.querySelectorAll("#pods .at, #kafka .at")].map(at => at.textContent).join()`
	ann.Wait("both pods and the end of the log in the strip", offsets+` === "@ 2,@ 2,@ 2"`)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	ann.Wait("that the connection is lost", connection+` !== "Connected"`)
	say(bob, "ann is away")
	sees(bob, "from ann, from bob, ann is away")
	say(ann, "typed while away")
	at.Store(startPod(t, env("pod-c")))
	connected(ann, "pod-c")
	sees(ann, "from ann, from bob, ann is away, typed while away")
	sees(bob, "from ann, from bob, ann is away, typed while away")
}
