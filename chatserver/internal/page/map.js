// @ts-check
/** The picture of the idea: a log, and pods that are positions in it. The strip shows it small and alive, the panel explains it. */
/** @import { Chat, Pod, Welcome } from "./client.js" */
import { byID, element, podHue, session, setText, showBanner } from "./dom.js";
import { words } from "./words.js";

/** Shows which pod the page is on, and how the connection is. */
export function showStatus(/** @type {Chat} */ chat, unread = 0) {
	const { phase, retryAt, welcome, kafka } = chat;
	const closed = phase === "closed";
	document.body.dataset.phase = phase;
	byID("connection").dataset.state = phase;
	setText(byID("connection-text"), phase === "replaying" && kafka === "down" ? words.waitsForKafkaToRead : words[phase]);
	setText(byID("countdown"), closed ? words.retryIn(Math.ceil(((retryAt ?? 0) - performance.now()) / 1000)) : "");
	setText(byID("trouble"), closed ? troubleOf(chat) : "");
	byID("reconnect").hidden = !closed || retryAt === undefined;
	if (welcome) setText(byID("heading"), words.heading(welcome.pod)); // until then it stands as the pod that served the page wrote it
	const title = closed ? words.closed : welcome && words.title(welcome.pod);
	if (title) setText(byID("title"), unread > 0 ? words.unread(unread, title) : title);
}

/** What the address said by HTTP, and what the person can do about it. */
function troubleOf(/** @type {Chat} */ { trouble, welcome }) {
	if (!trouble) return "";
	const { status, text } = trouble;
	const why = text.length < 300 && !text.includes("<") ? text.trim() : ""; // not a proxy's page
	if (status === 0) return `${words.noAnswer(location.host)} ${welcome ? words.noAnswerAdvice[welcome.where ?? "laptop"] : ""}`;
	if (status >= 500) return words.notReady(status, why);
	return [401, 403, 429].includes(status) ? words.turnedAway(status, why) : words.noWebsocket(status);
}

export function showBanners(/** @type {Chat} */ { kafka, reason, welcome }) {
	showBanner("kafka", kafka === "down" ? words.kafkaDown(reason, welcome?.broker) : undefined);
	if (!welcome) return;
	showBanner("partitions", welcome.partitions > 1 ? words.partitions(welcome.topic, welcome.partitions) : undefined);
	const mine = document.querySelector('meta[name="version"]')?.getAttribute("content");
	const reload = element("button", { type: "button", className: "link", onclick: () => location.reload() }, words.reload);
	showBanner("version", mine && welcome.version && welcome.version !== mine ? words.newVersion : undefined, reload);
}

/**
 * What the strip shows. read: the offset after the newest message that this page has seen, 0 if none
 * @typedef {{ pods: Pod[], here: string, standalone: boolean, topic: string, read: number }} Scene
 */

/** The strip of pods. A chip stays while its pod does, so that only what is new moves. */
export class Strip {
	/** More would only say "many". */
	static MOST = 16;
	/** A pod that is gone, and the people that came to another, are shown for so long. */
	static NEWS_MS = 5_000;
	/** Whoever joins so soon after the first list is oneself. */
	static FIRST_MS = 2_000;
	/** A message goes on to the next part of the picture after so long, and lights it for three times that. */
	static STEP_MS = 250;

	#list = byID("pods");
	#kafka = byID("kafka");
	#standalone = element("li", { className: "standalone" }, words.standalone);
	#more = element("li", { className: "more" });
	/** @type {Map<string, HTMLElement>} By the pod's name. */
	#chips = new Map();
	/** @type {Map<string, number>} Who was there in the last list, and how many people. */
	#people = new Map();
	/** @type {Map<string, ReturnType<typeof setTimeout>>} Pods that are gone, and shown for a while. */
	#gone = new Map();
	#firstHeard = 0;
	#calm = matchMedia("(prefers-reduced-motion: reduce)");

	/** A list of pods has come. */
	heard(/** @type {Pod[]} */ pods) {
		const first = this.#people.size === 0;
		if (first) this.#firstHeard = performance.now();
		const names = new Set(pods.map(({ pod }) => pod));
		for (const pod of this.#people.keys()) if (!names.has(pod)) this.#leaves(pod);
		for (const { pod, people } of pods) {
			clearTimeout(this.#gone.get(pod));
			this.#gone.delete(pod);
			if (first) continue;
			if (!this.#people.has(pod)) this.#chip(pod).classList.add("new");
			else this.#joined(this.#chip(pod), people - (this.#people.get(pod) ?? people));
		}
		this.#people = new Map(pods.map(({ pod, people }) => [pod, people]));
	}

	show(/** @type {Scene} */ { pods, here, standalone, topic, read }) {
		const end = Math.max(read, ...pods.map((pod) => pod.end ?? 0));
		const prefix = commonPrefix([...this.#people.keys(), ...this.#gone.keys()]);
		const all = [...pods].sort((a, b) => Number(b.pod === here) - Number(a.pod === here));
		const shown = all.slice(0, Strip.MOST);
		for (const pod of shown) this.#fill(pod, prefix, pod.pod === here, read);
		this.#kafka.hidden = !topic;
		setText(part(this.#kafka, ".topic"), topic);
		setText(part(this.#kafka, ".at"), words.at(end));
		setText(this.#more, words.morePods(all.length - shown.length));
		this.#arrange([
			...shown.map(({ pod }) => this.#chip(pod)),
			...[...this.#gone.keys()].map((pod) => this.#chip(pod)),
			...(all.length > shown.length ? [this.#more] : []),
			// Another pod may have joined this one's own broker.
			...(standalone && pods.length < 2 ? [this.#standalone] : []),
		]);
	}

	/** A message went through its pod into the log, and from there to all readers. */
	pass(pod = "") {
		if (this.#calm.matches || document.hidden || this.#kafka.getAnimations().length) return;
		const from = this.#chips.get(pod);
		if (from) light(from, 0);
		light(this.#kafka, Strip.STEP_MS);
		for (const reader of this.#chips.values()) if (!reader.classList.contains("gone")) light(reader, 2 * Strip.STEP_MS);
	}

	#chip(pod = "") {
		const found = this.#chips.get(pod) ?? newChip();
		this.#chips.set(pod, found);
		return found;
	}

	#fill(/** @type {Pod} */ { pod, people, offset, end }, prefix = "", here = false, read = 0) {
		const chip = this.#chip(pod);
		chip.title = pod;
		chip.style.setProperty("--pod", String(podHue(pod)));
		chip.ariaCurrent = here ? "true" : null;
		chip.classList.remove("gone");
		setText(part(chip, ".prefix"), prefix);
		setText(part(chip, "b"), pod.slice(prefix.length));
		setText(part(chip, ".people"), String(people));
		setText(part(chip, ".unit"), words.connected);
		// What this page has been sent, its own pod has read: that is newer than the last list.
		const at = here && offset !== undefined ? Math.max(offset, read) : offset;
		const behind = at === undefined || end === undefined ? 0 : Math.max(0, end - at);
		setText(part(chip, ".at"), at === undefined ? "" : behind ? words.behind(behind) : words.at(at));
		chip.classList.toggle("behind", behind > 0);
	}

	#leaves(pod = "") {
		const chip = this.#chip(pod);
		chip.classList.add("gone");
		chip.querySelector(".news")?.remove();
		for (const [name, text] of [[".people", ""], [".unit", ""], [".at", words.gone]]) setText(part(chip, name), text);
		this.#gone.set(pod, setTimeout(() => {
			this.#gone.delete(pod);
			this.#chips.delete(pod);
			chip.remove();
		}, Strip.NEWS_MS));
	}

	#joined(/** @type {HTMLElement} */ chip, more = 0) {
		if (more <= 0 || performance.now() - this.#firstHeard < Strip.FIRST_MS) return;
		const news = element("span", { className: "news" }, words.came(more));
		chip.append(news);
		setTimeout(() => news.remove(), Strip.NEWS_MS);
	}

	#arrange(/** @type {HTMLElement[]} */ chips) {
		for (const old of [...this.#list.children]) if (!chips.includes(/** @type {HTMLElement} */ (old))) old.remove();
		chips.forEach((chip, index) => this.#list.children[index] !== chip && this.#list.insertBefore(chip, this.#list.children[index] ?? null));
	}
}

function newChip() {
	const parts = ["people", "unit", "at"].map((className) => element("span", { className }));
	return element("li", {}, element("span", { className: "name" }, element("span", { className: "unseen prefix" }), element("b")), ...parts);
}

const part = (/** @type {HTMLElement} */ chip, name = "") => /** @type {HTMLElement} */ (chip.querySelector(name));

function light(/** @type {HTMLElement} */ chip, delay = 0) {
	chip.animate({ boxShadow: ["0 0 0 .22rem var(--lit)", "0 0 0 .22rem transparent"] }, { duration: 3 * Strip.STEP_MS, delay });
}

/** A pod that is alone needs no short name, unless its own is longer than this. */
const LONG_NAME = 16;

/** What all names of a deployment's pods begin with, up to a hyphen: three letters would do to tell them apart. */
function commonPrefix(/** @type {string[]} */ names) {
	let [prefix = ""] = names;
	if (names.length < 2 && prefix.length <= LONG_NAME) return "";
	for (const name of names) while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
	return prefix.slice(0, prefix.lastIndexOf("-") + 1);
}

/** @typedef {"tab" | "pod" | "stop" | "write"} Lesson */

/** "How it works": the way of the last message, and what to try, with what has been done. */
export class Panel {
	/** Nobody can read faster. */
	static REFRESH_MS = 250;
	/** On a screen of this width the panel takes nothing away from the conversation. */
	static WIDE = "(min-width: 100rem)";

	#panel = byID("panel");
	#refresh;
	/** @type {ReturnType<typeof setInterval> | undefined} */
	#timer;
	/** @type {string[]} */
	#done = session.get("done", /** @type {string[]} */ ([]));
	#lessons = "";

	/** Where the panel covers the conversation. */
	#covers = matchMedia("(max-width: 58rem), (max-height: 32rem)");

	constructor(/** @type {() => void} */ refresh) {
		this.#refresh = refresh;
		for (const id of ["how", "panel-close"]) byID(id).addEventListener("click", () => this.open(this.#panel.hidden));
		this.#covers.addEventListener("change", () => this.#cover());
	}

	/** Opens it on a first visit, where there is room for it. */
	start() {
		if (matchMedia(Panel.WIDE).matches && session.get("panel", "open") === "open") this.open(true);
	}

	get isOpen() {
		return !this.#panel.hidden;
	}

	open(open = true) {
		const leaves = !open && this.#panel.contains(document.activeElement);
		this.#panel.hidden = !open;
		this.#cover();
		if (leaves) byID("how").focus();
		byID("how").ariaExpanded = String(open);
		session.set("panel", open ? "open" : "closed");
		clearInterval(this.#timer);
		if (!open) return;
		this.#refresh();
		this.#timer = setInterval(this.#refresh, Panel.REFRESH_MS);
	}

	/** What is covered cannot be reached. */
	#cover() {
		const covers = this.isOpen && this.#covers.matches;
		byID("chat").inert = byID("header").inert = covers;
		if (covers && !this.#panel.contains(document.activeElement)) byID("panel-close").focus();
	}

	/** Something of "Try it" has been done. */
	did(/** @type {Lesson} */ lesson) {
		if (this.#done.includes(lesson)) return;
		this.#done.push(lesson);
		session.set("done", this.#done);
	}

	/** What to try, where this pod runs. On a laptop each pod has a port of its own. */
	showLessons(/** @type {Partial<Welcome>} */ { where = "laptop", topic = "", pod = "", broker, standalone }, pods = 1) {
		const port = Number(location.port || 80) + Math.max(pods, 1);
		const key = `${where} ${topic} ${pod} ${broker} ${port} ${this.#done}`;
		if (key === this.#lessons) return;
		this.#lessons = key;
		/** @type {{ pod: string, write: string, stop?: string, tab?: string }} */
		const commands = where === "cluster" ? words.commands.cluster(topic, pod) : words.commands.laptop(topic, port, broker);
		/** @type {Record<Lesson, string>} */
		const lessons = { tab: words.tryTab, pod: words.tryPod, stop: words.tryStop[standalone ? "alone" : where], write: words.tryWrite };
		byID("try").replaceChildren(.../** @type {Lesson[]} */ (Object.keys(lessons)).map((lesson) => {
			const done = this.#done.includes(lesson);
			const row = element("li", { className: done ? "done" : "" });
			if (done) row.append(element("span", { className: "unseen" }, words.done));
			row.append(lessons[lesson]);
			const command = commands[lesson];
			if (command) row.append(element("code", { className: "block" }, command));
			return row;
		}));
	}

	/**
	 * The way of the last message, with what was measured if it was one's own. Two clocks are never mixed: the browser's
	 * measures the round trip, the pod's measures its part of it.
	 *
	 * @param {string[]} steps @param {Journey} [journey]
	 */
	showPath(steps, journey) {
		const [path, figures] = [byID("path"), byID("figures")];
		const whole = journey?.roundTrip ?? 0;
		const key = `${steps.join("\n")} ${whole} ${journey?.podMS}`;
		if (figures.dataset.key === key) return;
		figures.dataset.key = key;
		path.replaceChildren(...steps.map((step) => element("li", {}, step)));
		figures.replaceChildren();
		for (const [name, ms] of /** @type {const} */ ([[words.roundTrip, journey?.roundTrip], [words.podPart, journey?.podMS]])) {
			if (ms === undefined) continue;
			const figure = element("dd", {}, words.milliseconds(ms));
			figure.style.setProperty("--share", String(ms / whole));
			figures.append(element("dt", {}, name), figure);
		}
	}
}

/** @typedef {{ id: string, sentAt: number, roundTrip?: number, podMS?: number }} Journey */
