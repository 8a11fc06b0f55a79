package page_test

import (
	"testing"
)

func TestReload(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("live", isLive+" && "+shown("hello"))
	tab.Click("#name")
	tab.Write("Zoë 🎈")
	say(tab, "mine", "not acked")
	mine := socket.expect("mine", "not acked")
	if mine[0].Name != "Zoë 🎈" {
		t.Errorf("the name is %q", mine[0].Name)
	}
	socket.send(mine[0].echo(2), mine[0].ack(2))
	tab.Wait("one is stored", `document.querySelectorAll("#rows .mine").length === 1`)
	tab.Do(`document.querySelector("#text").focus()`)
	tab.Write("half a senten")

	tab.Reload()
	socket = pod.accept()
	if got := socket.asked.Get("after"); got != position(2) {
		t.Errorf("after the reload the page asked for %v, want after=%s", socket.asked, position(2))
	}
	tab.Wait("everything is back before the pod says a word", shown("hello", "mine", "not acked")+
		` && document.querySelector("#name").value === "Zoë 🎈" && document.querySelector("#text").value === "half a senten"`)
	socket.open()
	if again := socket.expect("not acked")[0]; again != mine[1].again() {
		t.Errorf("resent as %+v, want %+v", again, mine[1].again())
	}
	tab.Wait("nothing twice", shown("hello", "mine", "not acked")+` && document.querySelectorAll("#rows .day").length === 1`)
	tab.Reload()
	socket = pod.accept()
	socket.open(mine[1].echo(3))
	tab.Wait("arrived in between", shown("hello", "mine", "not acked")+` && document.querySelectorAll("#rows .mine").length === 2`)
	socket.notYet()
}

func TestFrozenTab(t *testing.T) {
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	say(tab, "not acked")
	mine := socket.expect("not acked")[0]
	tab.Wait("live", isLive+" && "+shown("hello", "not acked"))

	tab.Freeze()
	socket.waitClosed() // a frozen page does not pretend to be there
	tab.Thaw()
	socket = pod.accept()
	if got := socket.asked.Get("after"); got != position(1) {
		t.Errorf("after the thaw the page asked for %v, want after=%s", socket.asked, position(1))
	}
	socket.open(record(2, "somebody-else-0002", "Ann", "while you were away"))
	if again := socket.expect("not acked")[0]; again != mine.again() {
		t.Errorf("resent as %+v, want %+v", again, mine.again())
	}
	tab.Wait("nothing lost, nothing twice", isLive+" && "+shown("hello", "while you were away", "not acked"))
}

func TestStorageForbidden(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	tab.Wait("live", isLive)
	tab.Do(`Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError") }`)
	say(tab, "still works")
	mine := socket.expect("still works")[0]
	socket.send(mine.echo(1))
	tab.Wait("the message", shown("still works")+` && document.querySelectorAll("#rows .mine").length === 1`)
}
