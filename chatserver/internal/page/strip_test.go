package page_test

import (
	"fmt"
	"testing"

	"kafkachat/chatserver/internal/browsertest"
)

// pods is a pods event with people, offset and end of each.
func pods(all ...event) event { return event{"type": "pods", "pods": all} }

func at(pod string, people, offset, end int) event {
	return event{"pod": pod, "people": people, "offset": offset, "end": end}
}

// digits is a condition: the text of an element, without what a locale puts between digits, is this.
func digits(selector, want string) string {
	return `document.querySelector(` + js(selector) + `).textContent.replace(/(\d)\D(?=\d{3})/g, "$1") === ` + js(want)
}

// TestStripIsAMap: short names, people, positions, the end of the log; and only what is new moves.
func TestStripIsAMap(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "chatserver-7d9f-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"pod": "chatserver-7d9f-a"})
	socket.send(live(), pods(at("chatserver-7d9f-k", 2, 1234, 1246), at("chatserver-7d9f-a", 3, 1246, 1246)))
	tab.Wait("one's own first, and who is behind", chips("a 3 connected @ 1,246", "k 2 connected 12 behind")+` ||
		document.querySelectorAll("#pods li").length === 2 && `+digits("#pods li:first-child .at", "@ 1246"))
	tab.Wait("which is seen", `document.querySelector("#pods .behind").title === "chatserver-7d9f-k" && !document.querySelector("#pods [aria-current].behind")`)
	tab.Wait("the end of the log", digits("#kafka", "Kafkachat@ 1246"))
	tab.Wait("whole names for screen readers", `document.querySelector("#pods .name").textContent === "chatserver-7d9f-a"`)
	tab.Wait("two colours", `new Set([...document.querySelectorAll("#pods li")].map((chip) => chip.style.getPropertyValue("--pod"))).size === 2`)

	tab.Wait("the chips that have come are at rest", `document.querySelector("#pods").getAnimations({subtree: true}).length === 0`)

	// A message that this page is sent, its own pod has read, and is in the log.
	e := record(1246, "somebody-else-0001", "Ann", "hello")
	e["pod"] = "chatserver-7d9f-k"
	tab.Do(`window.lit = []; const animate = Element.prototype.animate;
		Element.prototype.animate = function (frames, options) { window.lit.push((this.id || this.title.at(-1)) + " " + options.delay); return animate.call(this, frames, options); };
		window.before = [...document.querySelectorAll("#pods li")]; window.moved = 0;
		document.querySelector("#pods").addEventListener("animationstart", () => window.moved++)`)
	socket.send(e)
	tab.Wait("both go on", digits("#kafka", "Kafkachat@ 1247")+" && "+digits("#pods [aria-current] .at", "@ 1247"))
	tab.Wait("its pod, Kafka and the readers light up in that order", `window.lit.join() === "k 0,kafka 250,a 500,k 500"`)
	tab.Wait("the message has its pod's colour, and tells it", `(when => when.style.getPropertyValue("--pod") === document.querySelector("#pods .behind").style.getPropertyValue("--pod")
		&& when.title.endsWith("through chatserver-7d9f-k") && when.ariaLabel.includes("through chatserver-7d9f-k"))(document.querySelector("#rows .when"))`)
	socket.send(pods(at("chatserver-7d9f-k", 4, 1247, 1247), at("chatserver-7d9f-a", 3, 1247, 1247)))
	tab.Wait("one number changed", `document.querySelectorAll("#pods .people")[1].textContent === "4"`)
	tab.Wait("no chip was made again, and none moved", `window.before.every((chip, index) => chip === document.querySelectorAll("#pods li")[index]) && window.moved <= 1`)
}

// TestPodsComeAndGo: who comes is noticed, who goes stays for a while, and where its people went is seen.
func TestPodsComeAndGo(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open()
	socket.send(pods(at("pod-a", 1, 5, 5), at("pod-b", 2, 5, 5)))
	tab.Wait("two", `document.querySelectorAll("#pods li").length === 2 && !document.querySelector("#pods .new")`)
	socket.send(pods(at("pod-a", 1, 5, 5), at("pod-b", 2, 5, 5), at("pod-c", 0, 5, 5)))
	tab.Wait("the third is noticed", `document.querySelector("#pods .new")?.title === "pod-c"`)
	tab.Do(`window.seen = performance.now()`)
	socket.send(pods(at("pod-a", 1, 5, 5), at("pod-c", 2, 5, 5)))
	tab.Wait("the one that went", `document.querySelector("#pods .gone")?.title === "pod-b" && document.querySelector("#pods .gone .at").textContent === "gone"`)
	tab.Wait("where its people went", `document.querySelector("#pods [title=pod-c] .news").textContent === "2 came"`)
	tab.Wait("after 5 s it is forgotten", `!document.querySelector("#pods .gone, #pods .news") && performance.now() - window.seen > 4900`)
}

func TestReducedMotion(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	tab.Media("prefers-reduced-motion", "reduce")
	socket := pod.accept()
	socket.open()
	socket.send(pods(at("pod-a", 1, 5, 5)))
	tab.Do(`window.lit = 0; Element.prototype.animate = () => window.lit++`)
	socket.send(record(6, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("the message, and nothing that moves", shown("hello")+` && window.lit === 0 && document.getAnimations().length === 0`)
}

// TestOwnPodIsVisible with any number of pods, on a phone and on a projector.
func TestOwnPodIsVisible(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "chatserver-7d9f6c5b4-m2x9z")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"pod": "chatserver-7d9f6c5b4-m2x9z"})
	socket.send(live())
	for _, n := range []int{1, 2, 10, 40} {
		var all []event
		for i := range n - 1 {
			all = append(all, at(fmt.Sprintf("chatserver-7d9f6c5b4-%05d", i), i, 1000, 1000))
		}
		socket.send(pods(append(all, at("chatserver-7d9f6c5b4-m2x9z", 7, 123456, 123456))...))
		tab.Wait("all of them", fmt.Sprintf(`document.querySelectorAll("#pods li").length === %d && document.querySelector("#pods [aria-current]").title.endsWith("m2x9z")`, min(n, 17)))
		for _, size := range [][2]int64{{320, 568}, {640, 400}, {960, 540}, {1280, 800}, {1920, 1080}} {
			tab.Emulate(size[0], size[1], false)
			tab.Wait(fmt.Sprintf("one's own pod and Kafka in view, %d pods, %v", n, size), `["#pods [aria-current] .name", "#kafka"].every((selector) => {
				const box = document.querySelector(selector).getBoundingClientRect();
				const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
				return box.left >= 0 && box.right <= innerWidth && seen?.closest(selector);
			}) && document.documentElement.scrollWidth <= innerWidth`)
		}
		tab.Do(`document.querySelector("#pods").scrollTo(9999, 9999)`)
		tab.Wait("also when the strip is scrolled", `(box => box.top >= 0 && document.elementFromPoint(box.left + 5, box.top + 5)?.closest("[aria-current]"))(document.querySelector("#pods [aria-current]").getBoundingClientRect())`)
		tab.Do(`document.querySelector("#pods").scrollTo(0, 0)`)
	}
	tab.Wait("and how many more", `document.querySelector("#pods .more").textContent === "and 24 more"`)
}

func TestPanelOnSmallAndWideScreens(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.open(record(1, "somebody-else-0001", "Ann", "hello"))
	tab.Wait("closed at first", isLive+` && document.querySelector("#panel").hidden`)
	tab.Emulate(360, 680, false)
	tab.Click("#how")
	tab.Wait("it covers the chat, which cannot be reached", `(box => box.width === innerWidth && box.height === innerHeight)(document.querySelector("#panel").getBoundingClientRect())
		&& document.querySelector("#chat").inert && document.activeElement.id === "panel-close"`)
	tab.Emulate(1280, 800, false)
	if browsertest.Value[bool](tab, `document.querySelector("#chat").inert`) {
		t.Error("Emulate came back before the page had heard of its new size")
	}
	tab.Wait("beside the chat there is room", `!document.querySelector("#chat").inert && document.querySelector("#chat").clientWidth > 800`)
	tab.Press(browsertest.Escape)
	tab.Wait("Escape closes it", `document.querySelector("#panel").hidden`)

	wide := chromium.For(t).Open("about:blank")
	wide.Emulate(1920, 1080, false)
	wide.Go(pod.url)
	pod.accept().open()
	wide.Wait("open on a first visit", isLive+` && !document.querySelector("#panel").hidden`)
	wide.Click("#panel-close")
	wide.Reload()
	pod.accept().open()
	wide.Wait("and then as it was left", isLive+` && document.querySelector("#panel").hidden`)
}

// TestTryIt: the commands fit where the pod runs, and what has been done is ticked off.
func TestTryIt(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "pod-a")
	tab := open(t, pod.url)
	socket := pod.accept()
	socket.welcome(event{"where": "laptop"})
	socket.send(live(), pods(at("pod-a", 1, 1, 1)))
	tab.Wait("live", isLive)
	tab.Click("#how")
	commands := `[...document.querySelectorAll("#try code")].map((code) => code.textContent).join("|")`
	tab.Wait("for a laptop", `/^PORT=\d+ KAFKA_BROKER=localhost:9092 go run chatserver\/main.go\|go run kafkawrite\/main.go$/.test(`+commands+`)`)
	done := `[...document.querySelectorAll("#try li")].map((row) => Number(row.className === "done")).join("")`
	tab.Wait("nothing is done", done+` === "0000"`)
	socket.send(record(2, "", "", "a line of kafkawrite"), pods(at("pod-a", 2, 2, 2)))
	tab.Wait("a line without a pod, a second tab", done+` === "1001"`)
	socket.send(pods(at("pod-a", 2, 2, 2), at("pod-b", 0, 2, 2)))
	tab.Wait("one more pod", done+` === "1101"`)
	socket.cut()
	socket = pod.accept()
	socket.welcome(event{"where": "laptop", "standalone": true, "broker": "localhost:9192", "topic": "t"})
	socket.send(live(), pods(at("pod-a", 2, 2, 2), at("pod-b", 0, 2, 2)))
	tab.Wait("the broker of this pod", `/^PORT=\d+ KAFKA_BROKER=localhost:9192 TOPIC=t go run chatserver\/main.go\|KAFKA_BROKER=localhost:9192 TOPIC=t go run kafkawrite\/main.go$/.test(`+commands+`)`)
	tab.Wait("a pod that cannot be spared", done+` === "1101" && document.querySelector("#try").textContent.includes("Stop the second pod")`)
	socket.send(pods(at("pod-a", 2, 2, 2)))
	tab.Wait("the second pod has been stopped", done+` === "1111"`)
	tab.Do(`sessionStorage.setItem("kafkachat.done", '["tab","pod","write"]')`)
	tab.Reload()
	socket = pod.accept()
	socket.welcome(event{"where": "laptop"})
	socket.send(live())
	tab.Click("#how")
	tab.Wait("as it was left", done+` === "1101"`)
	socket.cut()
	socket = pod.accept()
	socket.welcome(event{"where": "cluster", "pod": "pod-b", "topic": "chat"})
	socket.send(live())
	tab.Wait("all done, and the commands of a cluster", done+` === "1111" && `+commands+`.startsWith("kubectl scale deployment chatserver --replicas 3|kubectl delete pod pod-b|kubectl exec -it")`)
	tab.Wait("told to screen readers", `document.querySelector("#try li").textContent.startsWith("Done: ")`)
}
