package page_test

import (
	"fmt"
	"strings"
	"testing"
)

// chips is a condition: the strip has these, by what can be seen, in this order. A locale may put something between digits.
func chips(want ...string) string {
	return `$$("#pods li, #kafka").map((chip) => [...chip.querySelectorAll("b, .people, .unit, .topic, .at, .news")].map((part) => part.textContent)
		.filter(Boolean).join(" ")).join("|").replace(/(\d)\D(?=\d{3})/g, "$1") === ` + js(strings.Join(want, "|"))
}

// TestStripIsAMap: short names, people, positions, the end of the log; who comes and goes; and only what is new moves.
func TestStripIsAMap(t *testing.T) {
	const a, k = "chatserver-7d9f-a", "chatserver-7d9f-k"
	v := visitLive(t, event{"pod": a}, pods(at(k, 2, 1234, 1246), at(a, 3, 1246, 1246)))
	v.Wait("one's own first, who is behind, and the end of the log", chips("a 3 connected @ 1246", "k 2 connected 12 behind", "Kafka chat @ 1246"))
	v.Wait("the one that is behind, also in colour", `$("#pods .behind").title === "chatserver-7d9f-k" && !$("#pods [aria-current].behind") &&
		new Set($$("#pods li").map((chip) => chip.style.getPropertyValue("--pod"))).size === 2`)
	v.Wait("whole names for screen readers", `$("#pods .name").textContent === "chatserver-7d9f-a"`)
	v.Wait("the chips that have come are at rest", `!$("#pods .new") && $("#pods").getAnimations({subtree: true}).length === 0`)

	// A message that this page is sent, its own pod has read, and is in the log.
	e := hello(1246, "hello")
	e["pod"] = k
	v.Do(`window.lit = []; window.animate = Element.prototype.animate;
		Element.prototype.animate = function (frames, options) {
			window.lit.push((this.id || this.title.at(-1)) + " " + options.delay);
			return animate.call(this, frames, options);
		};
		window.before = $$("#pods li"); window.moved = 0;
		$("#pods").addEventListener("animationstart", () => window.moved++)`)
	v.send(e)
	v.Wait("both go on", chips("a 3 connected @ 1247", "k 2 connected 12 behind", "Kafka chat @ 1247"))
	v.Wait("its pod, Kafka and the readers light up in that order", `[...lit.slice(0, 2), ...lit.slice(2).sort()].join() === "k 0,kafka 250,a 500,k 500"`)
	v.Wait("the message has its pod's colour, and tells it", `(when => when.style.getPropertyValue("--pod") === $("#pods .behind").style.getPropertyValue("--pod")
		&& when.title.endsWith("through chatserver-7d9f-k") && when.ariaLabel.includes("through chatserver-7d9f-k"))($("#rows .when"))`)
	v.send(pods(at(k, 4, 1247, 1247), at(a, 3, 1247, 1247)))
	v.Wait("one number changed", chips("a 3 connected @ 1247", "k 4 connected @ 1247", "Kafka chat @ 1247"))
	v.Wait("no chip was made again, and none moved", `before.every((chip, index) => chip === $$("#pods li")[index]) && moved === 0`)

	// A pod that comes is noticed. A pod that goes stays for a while, and one sees where its people went.
	v.send(pods(at(k, 4, 1247, 1247), at(a, 3, 1247, 1247), at("chatserver-7d9f-c", 0, 1247, 1247)))
	v.Wait("the third is noticed", `$("#pods .new")?.title === "chatserver-7d9f-c"`)
	v.Do(`import("./map.js").then(({ Strip }) => Strip.FIRST_MS = 0)`)
	v.send(pods(at(a, 3, 1247, 1247), at("chatserver-7d9f-c", 2, 1247, 1247)))
	v.Wait("the one that went, and where its people are", chips("a 3 connected @ 1247", "c 2 connected @ 1247 2 joined", "k gone", "Kafka chat @ 1247")+` && $("#pods .gone").title.endsWith("k")`)
	v.Do(`import("./map.js").then(({ Strip }) => { Strip.NEWS_MS = 1000; window.sent = performance.now(); })`)
	v.send(pods(at(a, 5, 1247, 1247)))
	v.Wait("after a while all that is forgotten", chips("a 5 connected @ 1247", "k gone", "Kafka chat @ 1247")+` && (window.took ??= performance.now() - sent)`)
	v.Wait("not before", `took >= 990`)

	// A pod of the first edition has no positions, and a name is text. Nothing moves for who does not want that.
	v.send(pods(event{"pod": a, "people": 1}, event{"pod": "<i>b</i>", "people": 12}))
	v.Wait("without positions", chips(a+" 1 connected", "<i>b</i> 12 connected", "k gone", "Kafka chat @ 1247"))
	v.Media("prefers-reduced-motion", "reduce")
	v.Do(`window.lit = []`)
	v.send(hello(1248, "quietly"))
	v.Wait("a message, and nothing that moves", shown("hello", "quietly")+` && lit.length === 0 && document.getAnimations().length === 0`)
}

// TestScreens: nothing sticks out, the log has room, and one's own pod and Kafka are in view, with any number of pods.
// 640 x 400 is what a laptop has left at a zoom of 200 %, and 960 x 540 a projector.
func TestScreens(t *testing.T) {
	const own = "a-pod-with-a-very-long-name-as-kubernetes-makes-them-7d9f6c5b4-m2x9z"
	long := strings.Repeat("abcdefghij", 300)
	v := visitLive(t, event{"pod": own}, record(1, "small-screen-00001", long[:60], long), hello(2, "```\n"+long+"\n```"))
	for _, n := range []int{1, 2, 40} {
		var all []event
		for i := range n - 1 {
			all = append(all, at(strings.TrimSuffix(own, "m2x9z")+fmt.Sprintf("%05d", i), i, 1000, 1000))
		}
		v.send(pods(append(all, at(own, 7, 123456, 123456))...))
		v.Wait("all of them", fmt.Sprintf(`$$("#pods li").length === %d && $("#pods [aria-current]").title.endsWith("m2x9z")`, min(n, 17)))
		for _, size := range [][2]int64{{320, 568}, {640, 400}, {960, 540}, {1280, 800}, {1920, 1080}, {1920, 540}} {
			v.Emulate(size[0], size[1], false)
			v.Wait(fmt.Sprintf("%d pods, %v", n, size), `["#pods [aria-current] .name", "#kafka"].every((selector) => {
					const box = $(selector).getBoundingClientRect();
					const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
					return box.left >= 0 && box.right <= innerWidth && seen?.closest(selector);
				}) && document.documentElement.scrollWidth <= innerWidth && $("#log").scrollWidth <= $("#log").clientWidth &&
				$("#send").getBoundingClientRect().bottom <= innerHeight && $("#log").clientHeight > 100 && `+atEnd)
		}
	}
	v.Wait("and how many more", are("#pods .more", "and 24 more"))
	v.Do(`$("#pods").scrollTo(9999, 9999)`)
	v.Wait("also when the strip is scrolled", `(box => box.top >= 0 &&
		document.elementFromPoint(box.left + 5, box.top + 5)?.closest("[aria-current]"))($("#pods [aria-current]").getBoundingClientRect())`)
}

// TestPanel: the path of a message, and what to try: true where the pod runs, and ticked off. Where the panel covers the chat, the
// chat cannot be reached; on very wide screens the panel is open on a first visit.
func TestPanel(t *testing.T) {
	done := func(want string) string {
		return `$$("#try li").map((row) => Number(row.className === "done")).join("") === ` + js(want)
	}
	commands := `texts("#try code").replace(/PORT=(\d+)/, (_, port) => "PORT=+" + (port - location.port))`
	v := visitLive(t, event{"where": "laptop"}, pods(at("pod-a", 1, 1, 1)))
	v.Wait("closed at first", `$("#panel").hidden`)
	v.Click("#how")
	v.Wait("nothing to show yet", are("#path", "Send a message to see its path.")+" && "+done("0000"))
	v.Wait("an older pod on a laptop", commands+` === "PORT=+1 KAFKA_BROKER=localhost:9092 go run chatserver/main.go|go run kafkawrite/main.go"`)
	v.send(record(2, "", "", "a line of kafkawrite"), pods(at("pod-a", 2, 2, 2)))
	v.Wait("a line without a pod, a second tab", done("1001"))
	v.cut()
	v.back(event{"where": "laptop", "standalone": true, "broker": "localhost:9192", "topic": "t"}, pods(at("pod-a", 2, 2, 2), at("pod-b", 0, 2, 2)))
	v.Wait("one more pod", done("1101"))
	v.Wait("this pod's own broker", commands+` === "PORT=+2 KAFKA_BROKER=localhost:9192 TOPIC=t go run chatserver/main.go|`+
		`KAFKA_BROKER=localhost:9192 TOPIC=t go run kafkawrite/main.go"`)
	v.Wait("which cannot be spared", `texts("#try li").includes("Stop the second pod with Ctrl-C")`)

	mine := v.say("measure me")[0]
	v.send(mine.echo(41), mine.ack(41))
	v.Wait("the path", are("#path li", "You", "pod-b writes it", "Kafka keeps it: t, partition 0 @ 41", "All 2 pods read it", "2 connections get it"))
	v.Wait("the two figures", `/^\d+(\.\d)? ms\|1\.3 ms$/.test(texts("#figures dd"))`)
	v.send(hello(42, "mine has no figures"))
	v.Wait("another's path, without figures", `$("#path").textContent.startsWith("Ann") && !$("#figures").children.length`)
	v.Emulate(360, 680, false)
	v.Wait("it covers the chat", `(box => box.width === innerWidth && box.height === innerHeight)($("#panel").getBoundingClientRect()) &&
		$("#chat").inert && document.activeElement.id === "panel-close"`)
	v.Emulate(1280, 800, false)
	v.Wait("beside the chat there is room", `!$("#chat").inert && $("#chat").clientWidth > 800`)
	v.send(pods(at("pod-a", 2, 2, 2)))
	v.Wait("the second pod has been stopped", done("1111")+` && $("#try li").textContent.startsWith("Done: ")`)

	v.cut()
	v.back(event{"where": "cluster", "pod": "pod-b"})
	v.Wait("the commands of a cluster", commands+`.startsWith("kubectl scale deployment chatserver --replicas 3|kubectl delete pod pod-b|kubectl exec -it")`)
	v.Emulate(1920, 1080, false)
	v.Do(`window.dispatchEvent(new Event("pagehide")); sessionStorage.clear(); Storage.prototype.setItem = () => {}`)
	v.Reload()
	v.back(nil)
	v.Wait("open on a first visit", `!$("#panel").hidden && `+done("0000"))
	v.Click("#panel-close")
	v.Reload()
	v.back(nil)
	v.Wait("as it was left", `$("#panel").hidden && $("#how").ariaExpanded === "false"`)
}
