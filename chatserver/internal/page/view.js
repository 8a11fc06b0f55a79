// @ts-check
/** The conversation: what the page remembers of it, and the part of it that is in the document. */
import { bubble, byID, element, parts, podHue, setText, textNodes } from "./dom.js";
import { words } from "./words.js";

/**
 * Everything that has been said, as far as this page remembers: messages, and lines between them.
 *
 * @typedef {{ kind: "message", id?: string, name: string, text: string, pod?: string, offset: number, position: string, at: number,
 *   mine: boolean, placeholder: boolean, nameless: boolean, follows?: boolean }} Message nameless: its name is the page's word
 * @typedef {{ kind: "note", text: string, moved: boolean } | { kind: "day", at: number }} Line
 * @typedef {(Message | Line) & { nodes?: number }} Item
 */
export class Conversation {
	/** Remembered for scrolling back. The oldest are forgotten in batches, so that so large an array moves seldom. */
	static MOST = 20_000;
	static BATCH = 1_000;
	/** One person's messages within this time are one paragraph. */
	static PARAGRAPH_MS = 5 * 60_000;

	/** @type {Item[]} */
	#items = [];
	/** The number of #items[0]. An item keeps its number when older ones come or are forgotten. */
	start = 0;

	get end() {
		return this.start + this.#items.length;
	}

	/** The item with this number, in start..end-1. */
	at(number = 0) {
		return this.#items[number - this.start];
	}

	/** The oldest message whose place in the topic is known. */
	get oldest() {
		return /** @type {Message | undefined} */ (this.#items.find((item) => item.kind === "message" && item.position));
	}

	get full() {
		return this.#items.length >= Conversation.MOST;
	}

	add(/** @type {Message} */ message) {
		append(this.#items, message);
		if (this.#items.length < Conversation.MOST + Conversation.BATCH) return;
		this.#items.splice(0, Conversation.BATCH);
		this.start += Conversation.BATCH;
	}

	/** Messages from before the oldest. */
	prepend(/** @type {Message[]} */ messages) {
		if (!messages.length) return;
		/** @type {Item[]} */
		const older = [];
		for (const message of messages) append(older, message);
		const [first] = this.#items;
		if (first?.kind === "day" && sameDay(first.at, messages[messages.length - 1].at)) {
			this.#items.shift();
			this.start++;
		}
		this.#items.unshift(...older);
		this.start -= older.length;
	}

	/** A line between messages. The same twice in a row says nothing new, and of several moves in a row the last one counts. */
	note(text = "", moved = false) {
		const last = this.#items.at(-1);
		if (last?.kind === "note" && last.moved && moved) last.text = text;
		else if (last?.kind !== "note" || last.text !== text) this.#items.push({ kind: "note", text, moved });
	}

	/** The newest items without the days, which add makes anew: at most so many, with at most so many letters. */
	newest(count = 0, letters = 0) {
		const newest = [];
		for (const item of this.#items.slice(-count).reverse()) {
			if (item.kind === "day") continue;
			letters -= item.text.length;
			if (letters < 0) break;
			newest.unshift(item);
		}
		return newest;
	}

	/**
	 * The number of the next message with these words, beginning with number from, in steps of 1 or -1.
	 * @returns {number | undefined}
	 */
	find(query = "", from = 0, step = -1) {
		const wanted = query.toLowerCase();
		for (let number = from; number >= this.start && number < this.end; number += step) {
			const item = this.at(number);
			if (item.kind === "message" && `${item.name}\n${item.text}`.toLowerCase().includes(wanted)) return number;
		}
	}
}

function append(/** @type {Item[]} */ items, /** @type {Message} */ message) {
	const dated = items.findLast((item) => item.kind !== "note");
	if (!dated || !sameDay(dated.at, message.at)) items.push({ kind: "day", at: message.at });
	const last = items.at(-1);
	const follows = last?.kind === "message" && !message.nameless && last.name === message.name && last.pod === message.pod &&
		last.mine === message.mine && message.at - last.at < Conversation.PARAGRAPH_MS;
	items.push({ ...message, follows });
}

const sameDay = (a = 0, b = 0) => new Date(a).toDateString() === new Date(b).toDateString();

/** Local time in the reader's manner. Formatters are slow to make, so each is made once. */
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
export const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const calendarDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

const dayName = (at = 0) => (sameDay(at, Date.now()) ? words.today : calendarDay.format(at));

/**
 * The conversation on the screen: a window of rows that moves as the person scrolls, so the document stays small however
 * much is said. Who looks at the end stays at the end; who reads is never moved.
 */
export class View {
	/** DOM nodes that rows may use. The page as a whole stays below 1,500. */
	static MOST_NODES = 700;
	/** So many rows come at once when the person scrolls towards the window's edge: less than a quarter of the window. */
	static STEP = 20;
	/** This close to the end counts as the end, since browsers round. */
	static END_PX = 4;
	/** A message with more letters or lines is shown in part. */
	static LONG_LETTERS = 1_500;
	static LONG_LINES = 16;

	/** Whether the end of the conversation is kept in view. */
	pinned = true;
	/** @type {number | undefined} The number of the first message that came while nobody looked. */
	firstUnread;

	#log = byID("log");
	#rows = byID("rows");
	#conversation;
	#describe;
	/** The window is #first..#end-1; the children of #rows are its items, in order. */
	#first = 0;
	#end = 0;
	#nodes = 0;
	#today = "";
	/** The scroll position that is known. */
	#top = 0;
	/** Whether the layout has just changed: the scrolling that follows in the next frame is the browser's. */
	#disturbed = false;
	#marker = element("p", { className: "marker", textContent: words.newHere });
	/** The button of each message in the window. Only one of them is a stop of the Tab key; arrows walk on from it. */
	#whens = /** @type {HTMLCollectionOf<HTMLButtonElement>} */ (this.#rows.getElementsByClassName("when"));
	/** @type {HTMLButtonElement | undefined} */
	#tabStop;

	/** @param {Conversation} conversation @param {(message: Message) => string} describe @param {() => void} changed asks for a frame */
	constructor(conversation, describe, changed) {
		this.#conversation = conversation;
		this.#describe = describe;
		this.#log.addEventListener("scroll", () => {
			this.#scrolled();
			changed();
		}, { passive: true });
		// A phone's keyboard, a growing composer, another window size: the end stays in view.
		const disturb = () => {
			this.#disturbed = true;
			this.#pin();
			requestAnimationFrame(() => requestAnimationFrame(() => (this.#disturbed = false)));
		};
		byID("text").addEventListener("input", disturb);
		new ResizeObserver(disturb).observe(this.#log);
		const grown = new ResizeObserver(() => this.#pin());
		for (const part of [this.#rows, byID("pending")]) grown.observe(part);
		this.#rows.addEventListener("click", (click) => this.#clicked(/** @type {Element} */ (click.target)));
		this.#rows.addEventListener("keydown", (key) => this.#walk(key));
	}

	/** Whether the oldest message that the page remembers is in the document. */
	get atStart() {
		return this.#first === this.#conversation.start;
	}

	/** Goes to the end. The caller renders at once, so that a scroll event on its way does not undo this. */
	toEnd() {
		this.pinned = true;
	}

	/** Shows the item with this number in the upper part of the screen. */
	reveal(number = 0) {
		const above = this.#log.clientHeight / 4;
		this.pinned = false;
		this.#rebuild(Math.max(this.#conversation.start, number - View.STEP), number, above);
		if (this.#end === this.#conversation.end && this.#belowPX() <= View.END_PX) this.pinned = true;
	}

	/** Whether a row is in view. */
	sees(number = 0) {
		const row = this.#rows.children[number - this.#first]?.getBoundingClientRect();
		const log = this.#log.getBoundingClientRect();
		return row !== undefined && row.top >= log.top && row.bottom <= log.bottom;
	}

	/** Emphasizes one row, or none. */
	point(/** @type {number | undefined} */ number) {
		this.#rows.querySelector(".found")?.classList.remove("found");
		if (number !== undefined) this.#rows.children[number - this.#first]?.classList.add("found");
	}

	/** The conversation has got older items: what is in view stays where it is. */
	grown() {
		const anchor = this.#firstInView(".message");
		const number = anchor ? this.#first + [...this.#rows.children].indexOf(anchor) : this.#conversation.end - 1;
		const top = anchor ? anchor.getBoundingClientRect().top - this.#log.getBoundingClientRect().top : 0;
		this.pinned = false;
		this.#rebuild(Math.max(this.#conversation.start, number - View.STEP), number, top);
	}

	/** Brings the document up to date. Called once per frame. */
	render() {
		if (this.#today !== (this.#today = new Date().toDateString())) this.#nameDays();
		if (this.pinned) this.#showEnd();
		else this.#slide();
		this.#mark();
		const last = this.#whens[this.#whens.length - 1];
		if (last && (!this.#tabStop || document.activeElement !== this.#tabStop)) this.#makeTabStop(last);
		const note = this.#conversation.end > this.#first && this.#end === this.#conversation.end && this.#conversation.at(this.#end - 1);
		if (note && note.kind === "note") setText(/** @type {Element} */ (this.#rows.lastElementChild?.firstElementChild), note.text);
		this.#pin();
	}

	#nameDays() {
		[...this.#rows.children].forEach((row, index) => {
			const item = this.#conversation.at(this.#first + index);
			if (item?.kind === "day") setText(row.children[0], dayName(item.at));
		});
	}

	/** Only a person scrolls upwards. What grows or shrinks between two frames moves the end, and is no wish to leave it. */
	#scrolled() {
		const [top, below] = [this.#log.scrollTop, this.#belowPX()];
		if (this.pinned && this.#disturbed) return this.#pin();
		if (top < this.#top && below > 1) this.pinned = false;
		if (top > this.#top && below <= View.END_PX && this.#conversation.end - this.#end < View.STEP) this.pinned = true;
		this.#top = top;
	}

	#belowPX() {
		return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
	}

	#pin() {
		if (this.pinned) this.#scrollTo(this.#log.scrollHeight);
	}

	#scrollTo(top = 0) {
		this.#log.scrollTop = top;
		this.#top = this.#log.scrollTop;
	}

	#showEnd() {
		const { start, end } = this.#conversation;
		let first = end;
		for (let nodes = 0; first > start; first--) {
			nodes += weight(this.#conversation.at(first - 1));
			if (nodes > View.MOST_NODES) break;
		}
		if (first >= this.#end || first < this.#first) this.#clear(first);
		while (this.#first < first) this.#drop(true);
		while (this.#end < end) this.#add(false);
	}

	#clear(first = 0) {
		if (this.#rows.contains(document.activeElement)) this.#log.focus({ preventScroll: true });
		this.#rows.replaceChildren();
		this.#nodes = 0;
		this.#first = this.#end = first;
	}

	/** A new window that begins with one item and has another at this distance from the upper edge. */
	#rebuild(first = 0, number = 0, distance = 0) {
		this.#log.ariaBusy = "true"; // old rows that come back are no news
		this.#clear(first);
		while (this.#end < this.#conversation.end && (this.#nodes < View.MOST_NODES || this.#end <= number)) this.#add(false);
		const row = this.#rows.children[number - first];
		if (row) this.#scrollTo(this.#log.scrollTop + row.getBoundingClientRect().top - this.#log.getBoundingClientRect().top - distance);
		this.#log.ariaBusy = "false";
	}

	/** The person reads. Rows come and go outside of the view only, and what is in view stays where it is. */
	#slide() {
		const { start, end } = this.#conversation;
		const margin = this.#log.clientHeight / 4;
		const older = this.#log.scrollTop < margin && this.#first > start;
		const newer = !older && this.#belowPX() < margin && this.#end < end;
		if (!older && !newer && this.#first >= start) return;

		const anchor = this.#firstInView();
		const before = anchor?.getBoundingClientRect().top ?? 0;
		this.#log.ariaBusy = "true";
		while (this.#first < start && this.#first < this.#end) this.#drop(true); // the conversation has forgotten them
		if (older || newer) {
			for (let more = View.STEP; more > 0 && (older ? this.#first > start : this.#end < end); more--) this.#add(older);
			while (this.#nodes > View.MOST_NODES) this.#drop(newer);
		}
		const moved = anchor?.isConnected ? anchor.getBoundingClientRect().top - before : 0;
		this.#scrollTo(this.#log.scrollTop + moved);
		this.#log.ariaBusy = "false";
	}

	#firstInView(kind = "li") {
		const top = this.#log.getBoundingClientRect().top;
		return [...this.#rows.children].find((row) => row.matches(kind) && row.getBoundingClientRect().bottom > top);
	}

	/** Puts the line "new messages" above the first of them. It belongs to the row, and goes and comes with it. */
	#mark() {
		const row = this.firstUnread === undefined ? undefined : this.#rows.children[this.firstUnread - this.#first];
		if (!row) this.#marker.remove();
		else if (this.#marker.parentElement !== row) row.prepend(this.#marker);
	}

	#add(older = false) {
		const item = this.#conversation.at(older ? --this.#first : this.#end++);
		const row = item.kind === "message" ? this.#messageRow(item)
			: element("li", { className: item.kind }, element("p", {}, item.kind === "day" ? dayName(item.at) : item.text));
		row.dataset.nodes = String(weight(item));
		this.#nodes += weight(item);
		this.#rows[older ? "prepend" : "append"](row);
	}

	#drop(oldest = false) {
		const row = /** @type {HTMLElement} */ (this.#rows.children[oldest ? 0 : this.#end - this.#first - 1]);
		if (oldest) this.#first++;
		else this.#end--;
		this.#nodes -= Number(row.dataset.nodes);
		if (row.contains(document.activeElement)) this.#log.focus({ preventScroll: true });
		row.remove();
	}

	#messageRow(/** @type {Message} */ message) {
		const time = clock.format(message.at);
		const through = message.pod ? words.through(message.pod) : words.withoutPod;
		const when = element("button", {
			type: "button", className: "when", tabIndex: -1, title: `${fullTime.format(message.at)}, ${through}`,
			ariaLabel: words.details(time, through), ariaExpanded: "false",
		}, time);
		const row = bubble("", message.name, message.placeholder ? [message.text] : textNodes(message.text));
		for (const look of /** @type {const} */ (["follows", "mine", "placeholder"])) row.classList.toggle(look, message[look]);
		row.children[0].after(when);
		if (message.pod) when.style.setProperty("--pod", String(podHue(message.pod)));
		else row.classList.add("program");
		if (isLong(message.text)) row.append(element("button", { type: "button", className: "link all" }, words.showAll));
		if (message.mine) row.append(element("p", { className: "state stored" }, words.stored));
		return row;
	}

	/** A translator may have put elements of its own into a button. */
	#clicked(/** @type {Element} */ target) {
		const row = target.closest("li");
		const when = /** @type {HTMLButtonElement | null} */ (target.closest(".when"));
		const all = target.closest(".all");
		if (row && all) {
			row.classList.add("whole");
			all.remove();
			/** @type {HTMLElement} */ (row.querySelector(".when")).focus({ preventScroll: true });
		}
		if (!when || !row) return;
		when.ariaExpanded = String(when.ariaExpanded !== "true");
		if (when.ariaExpanded === "false") return when.nextElementSibling?.remove();
		const message = this.#conversation.at(this.#first + [...this.#rows.children].indexOf(row));
		if (message.kind === "message") when.after(element("p", { className: "origin" }, this.#describe(message)));
	}

	#walk(/** @type {KeyboardEvent} */ key) {
		const step = { ArrowUp: -1, ArrowDown: 1 }[key.key];
		const whens = [...this.#whens];
		const at = whens.indexOf(/** @type {HTMLButtonElement} */ (key.target));
		if (!step || at < 0) return;
		key.preventDefault();
		const next = whens[at + step];
		if (!next) return;
		this.#makeTabStop(next);
		next.focus();
	}

	#makeTabStop(/** @type {HTMLButtonElement} */ when) {
		if (this.#tabStop) this.#tabStop.tabIndex = -1;
		when.tabIndex = 0;
		this.#tabStop = when;
	}
}

const isLong = (text = "") => text.length > View.LONG_LETTERS || text.split("\n", View.LONG_LINES + 1).length > View.LONG_LINES;

/** The most DOM nodes that an item's row has, without its details, which few rows show at a time. Counted once. */
function weight(/** @type {Item} */ item) {
	return (item.nodes ??= item.kind === "message" ? 11 + 2 * parts(item.text).length : 3);
}
