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

// chromium is one process for all tests of this package.
var chromium browsertest.Chromium

const (
	connected = `document.querySelector("#connection-text").textContent === "Connected"`
	all       = `[...document.querySelectorAll("#rows .text")].map(text => text.textContent).join(", ")`
	lastText  = `[...document.querySelectorAll("#rows .text")].at(-1)?.textContent`
)

// say types a message and sends it.
func say(tab *browsertest.Tab, text string) {
	tab.Do(`document.querySelector("#text").focus()`)
	tab.Write(text)
	tab.Press(browsertest.Enter)
}

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
	ann, bob := chromium.Open(t, balancer.URL), chromium.Open(t, b.url)
	ann.Wait("connected to pod-a", connected+` && document.title === "Connected to Pod pod-a"`)
	bob.Wait("connected to pod-b", connected+` && document.title.endsWith("Connected to Pod pod-b")`)
	say(ann, "hello from ann")
	bob.Wait("ann's message", lastText+` === "hello from ann"`)
	say(bob, "hello from bob")
	ann.Wait("bob's message", lastText+` === "hello from bob"`)
	ann.Wait("both pods and the end of the log in the strip", `[...document.querySelectorAll("#pods .at, #kafka .at")].map((at) => at.textContent).join() === "@ 2,@ 2,@ 2"`)

	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	ann.Wait("that the connection is lost", `!(`+connected+`)`)
	say(bob, "ann is away")
	bob.Wait("his own message", lastText+` === "ann is away"`)
	say(ann, "typed while away")
	at.Store(startPod(t, env("pod-c")))
	ann.Wait("connected to pod-c", connected+` && document.querySelector("h1").textContent === "Chatting on pod-c"`)
	const want = `"hello from ann, hello from bob, ann is away, typed while away"`
	ann.Wait("everything once, in order", all+" === "+want)
	bob.Wait("the same", all+" === "+want)
}
