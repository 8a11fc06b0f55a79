package page_test

import (
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// notYet checks that the page has sent nothing so far. Call it after a condition that the page would have met later.
func (s *socket) notYet() {
	s.t.Helper()
	if len(s.said) > 0 {
		s.t.Errorf("the page sent %+v too early", <-s.said)
	}
}

func TestResend(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	tab.Wait("live", isLive)
	say(tab, "one", "two", "three") // before any ack
	mine := socket.expect("one", "two", "three")
	socket.send(mine[0].echo(1)) // one's own message event is an ack
	tab.Wait("the first is in the conversation", `document.querySelectorAll("#rows .mine").length === 1`)
	socket.cut()

	socket = pod.accept()
	if got := socket.asked.Get("after"); got != position(1) || len(socket.asked) != 1 {
		t.Errorf("the second socket asked for %v, want only after=%s", socket.asked, position(1))
	}
	tab.Wait("closed until the welcome", isClosed)
	say(tab, "four")
	socket.welcome(nil)
	socket.send(mine[1].echo(2), record(3, "somebody-else-0003", "Ann", "hi"))
	tab.Wait("the replay", shown("one", "two", "hi", "three", "four")+" && "+state("three", "Waits for the connection"))
	socket.notYet()
	socket.send(live())
	again := socket.expect("three", "four")
	if mine[2].Again || again[0] != mine[2].again() || again[1].Again {
		t.Errorf("sent %+v, resent %+v, want the same as before, and again; then %+v", mine[2], again[0], again[1])
	}
	socket.send(again[0].ack(4), again[0].echo(4), again[1].echo(5), again[1].ack(5))
	tab.Wait("everything once, in the topic's order", shown("one", "two", "hi", "three", "four")+` && document.querySelector("#pending").children.length === 0`)
}

func TestAckedButNotYetShownIsNotSentAgain(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "history-0000000001", "Ann", "hello"))
	say(tab, "stored", "unknown")
	mine := socket.expect("stored", "unknown")
	socket.send(mine[0].ack(3))
	tab.Wait("the ack", state("stored", "Stored in Kafka"))
	socket.cut()
	socket = pod.accept() // this pod lags behind: it has not read offset 3 when it says live
	socket.open(record(2, "somebody-else-0002", "Ann", "before it"))
	if again := socket.expect("unknown"); again[0] != mine[1].again() {
		t.Errorf("resent as %+v, want %+v", again[0], mine[1].again())
	}
	tab.Wait("what came before it", shown("hello", "before it", "stored", "unknown")+` && document.querySelectorAll("#pending > li").length === 2`)
	socket.send(mine[0].echo(3), mine[1].echo(4))
	tab.Wait("both, in order", shown("hello", "before it", "stored", "unknown")+` && document.querySelector("#pending").children.length === 0`)
}

// TestStoredInAGap: what is known to be stored needs no question; where its place is lost, it stands at the gap.
func TestStoredInAGap(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "history-0000000001", "Ann", "hello"))
	say(tab, "stored")
	socket.send(socket.expect("stored")[0].ack(5))
	tab.Wait("the ack", state("stored", "Stored in Kafka"))
	socket.cut()
	socket = pod.accept()
	socket.welcome(event{"resumed": false, "reason": "gap"})
	socket.send(record(9, "somebody-else-0009", "Ann", "after the gap"), live())
	tab.Wait("no question", noted("missing")+" && "+shown("hello", "stored", "after the gap")+` && document.querySelector("#pending").children.length === 0`)
}

func TestNothingTwice(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "first"), record(2, "", "", "no id"))
	socket.send(record(5, "somebody-else-0001", "Ann", "first"), record(2, "", "", "no id"), record(6, "somebody-else-0006", "Ann", "last"))
	tab.Wait("each once", shown("first", "no id", "last"))
}

func TestRefused(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	say(tab, "refuse me")
	mine := socket.expect("refuse me")[0]
	socket.send(event{"type": "reject", "id": mine.ID, "reason": "Kafka says no"}, event{"type": "reject", "reason": "not JSON"})
	tab.Wait("the reason", state("refuse me", "Refused: Kafka says no")+" && "+noted("Refused: not JSON"))
	tab.Click(`#pending button[value="again"]`)
	again := socket.expect("refuse me")[0]
	if again.ID == mine.ID {
		t.Error("a refused message is done with; the new attempt must have an id of its own")
	}
	socket.send(event{"type": "reject", "id": again.ID, "reason": "still no"})
	tab.Wait("the second reason", state("refuse me", "Refused: still no"))
	tab.Click(`#pending button[value="remove"]`)
	tab.Wait("gone", shown())
}

// TestUnsure: where the history that would tell is lost, the person decides; but what was never sent needs no question. The
// script of client.js has all the ways in which it is lost.
func TestUnsure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		lose        func(socket *socket) // after the reconnect, or under the connected client
		line, asked string               // the line in the conversation, and what the next socket asks for
	}{
		{"welcome fresh", func(s *socket) { s.welcome(event{"resumed": false, "reason": "fresh", "detail": "not a position"}) }, "lost its place", "last"},
		{"gap", func(s *socket) { s.welcome(nil); s.send(event{"type": "gap", "missing": 3}) }, "3 messages are missing", "after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := newPod(t, "pod-a")
			tab := open(t, pod.url)
			socket := pod.accept()
			socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
			tab.Wait("live", isLive+" && "+shown("hello"))
			say(tab, "maybe", "forget it")
			mine := socket.expect("maybe", "forget it")
			socket.cut()
			tab.Wait("closed", isClosed)
			say(tab, "never sent")
			socket = pod.accept()
			c.lose(socket)
			socket.send(live())

			fresh := socket.expect("never sent")[0]
			tab.Wait("the questions", noted(c.line)+" && "+state("maybe", "Maybe sent. Send again?")+" && "+state("forget it", "Maybe sent. Send again?"))
			tab.Click(`#pending > li:nth-child(1) button[value="again"]`)
			if again := socket.expect("maybe")[0]; again != mine[0].again() {
				t.Errorf("sent again as %+v, want the same id as before: %+v", again, mine[0].again())
			}
			tab.Wait("the first question is answered", state("maybe", "Sending…")) // and the second one stands still
			tab.Click(`#pending > li:nth-child(2) button[value="remove"]`)
			tab.Wait("one is gone", shown("hello", "maybe", "never sent"))

			socket.cut() // nothing has arrived since, so the position is what it was, or none
			socket = pod.accept()
			if !socket.asked.Has(c.asked) {
				t.Errorf("then the page asked for %v, want %s", socket.asked, c.asked)
			}
			socket.open(mine[0].echo(7), fresh.echo(8))
			tab.Wait("both arrived", shown("hello", "maybe", "never sent")+` && document.querySelector("#pending").children.length === 0`)
		})
	}
}

func TestMovingToAnotherPod(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("live", isLive+" && "+shown("hello"))
	socket.cut()
	socket = pod.accept()
	socket.welcome(event{"pod": "pod-b"})
	socket.send(record(2, "somebody-else-0002", "Ann", "missed"), live())
	tab.Wait("the other pod", shown("hello", "missed")+" && "+noted("You are on pod-b now")+` && document.title === "Connected to Pod pod-b"`)
}

// TestReconnect uses a page whose dice are known.
func TestReconnect(t *testing.T) {
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	tab.Do(`Math.random = () => 0.999`)

	// A connection that never lived: full jitter between 0 and 250 ms, 500 ms, 1 s. A browser's timer may be a little early.
	for _, atLeast := range []time.Duration{240 * time.Millisecond, 490 * time.Millisecond, 990 * time.Millisecond} {
		cut := time.Now()
		socket.cut()
		tab.Wait("closed", isClosed+` && document.title === "Connection closed" && document.querySelector("#connection").innerText.startsWith("Connection closed")`)
		socket = pod.accept()
		if waited := time.Since(cut); waited < atLeast {
			t.Errorf("came back after %v, want at least %v", waited, atLeast)
		}
	}

	// The next wait is a long one; a person need not sit it out. The page asks by HTTP first, and gets 400, as from every pod.
	tab.Do(`Math.random = () => 10`)
	socket.cut()
	tab.Wait("a countdown", `/Reconnecting in \d+ s/.test(document.querySelector("#countdown").textContent)`)
	cut := time.Now()
	tab.Click("#reconnect")
	socket = pod.accept()
	if waited := time.Since(cut); waited > 15*time.Second {
		t.Errorf("reconnect now took %v, the countdown would have been 20 s", waited)
	}
	socket.open()
	tab.Wait("live, and the focus is where one writes", isLive+` && document.activeElement.id === "text"`)

	// A pod that stops says when to come back: the page picks a moment in that time, also if somebody looks at the tab.
	tab.Do(`Math.random = () => 0.5`)
	asked := time.Now()
	socket.send(event{"type": "reconnect", "within_ms": 2000})
	socket.send(record(1000, "after-reconnect-01", "Ann", "the pod stops"))
	tab.Wait("the page has read that", lastShown+` === "the pod stops"`)
	say(tab, "written while the pod stops")
	tab.Wait("it waits", state("written while the pod stops", "Waits for the connection"))
	socket.notYet()
	if err := socket.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1012, ""), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	tab.Wait("closed", isClosed)
	tab.Do(`document.dispatchEvent(new Event("visibilitychange"))`)
	socket = pod.accept()
	if waited := time.Since(asked); waited < 990*time.Millisecond {
		t.Errorf("came back after %v, want half of the 2 s that the pod gave", waited)
	}
	socket.open()
	socket.send(socket.expect("written while the pod stops")[0].echo(1001))

	// A pod that only asks, and does not close, is left all the same.
	socket.send(event{"type": "reconnect", "within_ms": 10})
	socket.waitClosed()
	socket = pod.accept()
	socket.open()
	say(tab, "ready")
	socket.expect("ready") // the screen alone does not tell that it is live again: it was live before

	// Another network: the old socket may be dead without knowing.
	tab.Do(`window.dispatchEvent(new Event("online"))`)
	socket.waitClosed()
	pod.accept().open()
	tab.Wait("live", isLive)
}
