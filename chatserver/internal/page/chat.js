// @ts-check
/**
 * The page of the chat. From top to bottom: the words, the protocol, then one class for each idea, then the wiring.
 *
 *   Composer ──▶ Outbox ──▶ Connection ──▶ pod ──▶ Kafka
 *   View ◀── Conversation ◀── Connection ◀── pod ◀──┘
 *
 * The rules of this file:
 * - Every word that a person reads stands in `texts`.
 * - What others wrote reaches the document as text, never as markup.
 * - The topic decides the order: only a message event moves a message from the outbox to the conversation.
 */

/** @satisfies {Record<string, string | string[] | ((a: any, b: any) => string)>} */
const texts = {
	title: (pod) => `Connected to Pod ${pod}`,
	heading: (pod) => `Chatting on ${pod}`,
	unread: (count, title) => `(${count}) ${title}`,

	connecting: "Connecting…",
	replaying: "Catching up…",
	live: "Connected",
	closed: "Connection closed",
	retryIn: (seconds) => (seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting…"),
	reconnectNow: "Reconnect now",

	podsLabel: "Pods",
	people: (count) => (count === 1 ? "1 person" : `${count} people`),
	morePods: (count) => `and ${count} more`,
	standalone: "standalone: only people on this pod see you",

	kafkaDown: "Kafka is not reachable. What you write waits here until it is.",
	partitions: (topic, count) =>
		`The topic “${topic}” has ${count} partitions. Only partition 0 is the chat.`,
	newVersion: "There is a new version of this page. This one keeps working.",
	reload: "Reload for the new version",
	broken: "This page cannot run. Please reload it, or use a current browser.",

	conversation: "Conversation",
	messages: "Messages",
	empty: "No messages yet. Say hello.",
	guest: "Guest",
	fromKafka: "Kafka",
	today: "Today",
	newHere: "New messages",
	latest: "Latest messages",
	newMessages: (count) => (count === 1 ? "1 new message" : `${count} new messages`),
	details: (time) => `${time}, details`,
	origin: (pod, place) => `through ${pod}, stored at ${place}`,
	originKafka: (place) => `written to Kafka without a pod, stored at ${place}`,
	place: (topic, offset) => `${topic}, partition 0 @ ${offset}`,

	moved: (pod) => `You are on ${pod} now. Nothing was missed.`,
	gap: (missing) => `${missing ? `${missing} messages` : "Messages"} are missing here: they are older than this pod remembers.`,
	reset: "The history starts anew here: Kafka has another log now.",
	fresh: "The page lost its place in the conversation, and starts with the newest messages.",
	refused: (reason) => `Refused: ${reason}`,

	sending: "Sending…",
	stored: "Stored in Kafka",
	waitsForConnection: "Waits for the connection",
	waitsForKafka: "Waits for Kafka",
	unsure: "Maybe sent. Send again?",
	sendAgain: "Send again",
	remove: "Remove",

	nameLabel: "Your name",
	namePlaceholder: "Your name",
	textLabel: "Message",
	textPlaceholder: "Write a message",
	send: "Send",
	hint: "Enter sends, Shift + Enter starts a new line, arrow up brings back what you sent.",
	tooLong: (over) => `Too long by ${over} bytes.`,
	tooMany: "Too many messages are waiting.",

	howItWorks: "How it works",
	panelTitle: "The path of the last message",
	panelIntro: "Each pod writes what its people say to one Kafka topic, and reads everything from it. Pods need not know each other.",
	noPath: "Send a message and see the way it takes.",
	you: "You",
	allPods: (count) => (count === 1 ? "The only pod reads it" : `All ${count} pods read it`),
	everybody: (count) => (count === 1 ? "1 person sees it" : `${count} people see it`),
	writtenBy: (pod) => `${pod} writes it`,
	keptAt: (place) => `Kafka keeps it: ${place}`,
	roundTrip: "There and back, by your browser’s clock",
	podPart: "of it in the pod and Kafka, by the pod’s clock",
	milliseconds: (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`,
	tryTitle: "Try it",
	tryThese: [
		"Open this page in a second tab.",
		"Start one more pod: it appears above within seconds.",
		"Stop the pod that you are on: you move to another, and miss nothing.",
		"Write a line with kafkawrite: it appears here, without any pod.",
	],
};

/**
 * chat.v1, as the pod speaks it. Unknown types and fields are ignored, so an old page works with a new pod.
 *
 * @typedef {{ type: "welcome", pod: string, topic: string, resumed: boolean, reason?: "fresh" | "gap" | "reset",
 *   standalone: boolean, partitions: number, max_bytes: number, kafka: "up" | "down", version: string }} Welcome
 * @typedef {{ type: "message", offset: number, position: string, id?: string, name?: string, text: string, pod?: string,
 *   time: string, placeholder?: boolean }} Said
 * @typedef {Welcome | Said
 *   | { type: "live", position?: string }
 *   | { type: "ack", id: string, offset: number, ms: number }
 *   | { type: "reject", id?: string, reason: string }
 *   | { type: "gap", missing?: number }
 *   | { type: "reset" }
 *   | { type: "status", kafka: "up" | "down" }
 *   | { type: "pods", pods: Pod[] }
 *   | { type: "reconnect", within_ms: number }} ChatEvent
 * @typedef {{ pod: string, people: number }} Pod
 */

/** How many messages a first visit asks for. */
const HISTORY = 100;
/** In UTF-8. A text's bound comes with the welcome. */
const MAX_NAME_BYTES = 64;

const now = () => performance.now();
const bytes = (text = "") => new TextEncoder().encode(text).length;

/** An id that nobody else has. crypto.randomUUID is missing on plain http, where a lab's pods live. */
function randomID() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...(Node | string)} children
 */
function element(tag, properties = {}, ...children) {
	const made = Object.assign(document.createElement(tag), properties);
	made.append(...children);
	return made;
}

/** An element of index.html. A missing one means that a roll-out gave this script the page of another version. */
function byID(id = "") {
	const found = document.getElementById(id);
	if (!found) throw new Error(`index.html has no #${id}: it is of another version than chat.js`);
	return found;
}

/** Writes only what changed: an unchanged status must not be read out again. */
function setText(/** @type {HTMLElement} */ node, /** @type {string} */ text) {
	if (node.textContent !== text) node.textContent = text;
}

/**
 * What the browser keeps for us. It may be full or forbidden: then the page forgets, and works.
 * @param {"localStorage" | "sessionStorage"} area
 * @returns {{ get(key: string): any, set(key: string, value: unknown): void }}
 */
const storage = (area) => ({
	get(key) {
		try {
			return JSON.parse(window[area].getItem(`kafkachat.${key}`) ?? "null");
		} catch {
			return null;
		}
	},
	set(key, value) {
		try {
			window[area].setItem(`kafkachat.${key}`, JSON.stringify(value));
		} catch {} // only a reload would notice
	},
});
const session = storage("sessionStorage");
const local = storage("localStorage");

/**
 * What a person said and the topic has not shown yet, oldest first. It survives a reload.
 *
 * - waiting: never given to a socket, so it cannot be in the topic
 * - sent: given to a socket; it may be in the topic
 * - unsure: was sent, and the history that would tell was lost; the person decides
 * - stored: read back from the topic by the pod; its message event is on the way
 * - refused: will never appear
 *
 * @typedef {"waiting" | "sent" | "unsure" | "stored" | "refused"} State
 * @typedef {{ id: string, name: string, text: string, state: State, reason?: string, offset?: number, again?: true }} Entry
 */
class Outbox {
	/** More would be a script, not a person. */
	static MOST = 20;

	/** @type {Map<string, Entry>} In the order of writing. */
	#entries = new Map();
	#save;

	/** @param {Entry[]} saved @param {(entries: Entry[]) => void} save called after each change */
	constructor(saved, save) {
		for (const entry of saved) this.#entries.set(entry.id, entry);
		this.#save = save;
	}

	get full() {
		return this.#entries.size >= Outbox.MOST;
	}

	/** @param {...State} states none means all */
	all(...states) {
		return [...this.#entries.values()].filter((entry) => !states.length || states.includes(entry.state));
	}

	get(id = "") {
		return this.#entries.get(id);
	}

	add(name = "", text = "") {
		const id = randomID();
		this.#entries.set(id, { id, name, text, state: "waiting" });
		this.#save(this.all());
	}

	/** @param {Entry} entry @param {Partial<Entry>} change */
	change(entry, change) {
		Object.assign(entry, change);
		this.#save(this.all());
	}

	/** @param {Entry} entry */
	remove(entry) {
		this.#entries.delete(entry.id);
		this.#save(this.all());
	}

	/** The history that would have shown what became of sent messages is lost. */
	doubt() {
		for (const entry of this.all("sent")) this.change(entry, { state: "unsure" });
	}

	/**
	 * Say it again. A doubtful one keeps its id: if the first copy is in the topic after all, every pod drops the second.
	 * A refused one is done with, so the new attempt is a new message.
	 * @param {Entry} entry
	 */
	again(entry) {
		if (entry.state === "unsure") return this.change(entry, { state: "waiting" });
		this.remove(entry);
		this.add(entry.name, entry.text);
	}
}

/**
 * The socket, and when to open the next one. After "connecting" for the first time it is "closed" until a pod says
 * welcome: for a person, an attempt is not yet a connection.
 *
 * @typedef {"connecting" | "closed" | "replaying" | "live"} Phase
 */
class Connection {
	/** Full jitter: attempt n waits between 0 and BASE_MS * 2^n, at most CAP_MS. */
	static BASE_MS = 250;
	static CAP_MS = 10_000;
	/** A connection that lived this long was a good one: the next wait is short again. */
	static GOOD_MS = 5_000;
	/** A handshake that takes longer has met a host that swallows packets. */
	static HANDSHAKE_MS = 10_000;

	/** @type {Phase} */
	phase = "connecting";
	/** @type {number | undefined} When the next attempt is due, by now(). Only between two attempts. */
	retryAt;

	#address;
	#onEvent;
	#onPhase;
	/** @type {WebSocket | undefined} An older socket's events are not heard. */
	#socket;
	/** The one next step: give the handshake up, or open. */
	#timer = 0;
	#attempts = 0;
	#openedAt = 0;
	/** The pod is about to stop, and asked us to come back at retryAt. */
	#asked = false;

	/**
	 * @param {() => URL} address asked before each attempt
	 * @param {(event: ChatEvent) => void} onEvent
	 * @param {() => void} onPhase
	 */
	constructor(address, onEvent, onPhase) {
		this.#address = address;
		this.#onEvent = onEvent;
		this.#onPhase = onPhase;
	}

	/** Whether the pod takes messages on this connection. */
	get ready() {
		return this.phase === "live" && !this.#asked;
	}

	/** Opens a new socket now, whatever there was before. */
	open() {
		this.#letGo();
		this.retryAt = undefined;
		this.#openedAt = now();
		const socket = new WebSocket(this.#address(), "chat.v1");
		this.#socket = socket;
		socket.onmessage = (frame) => socket === this.#socket && this.#receive(frame.data);
		socket.onclose = () => socket === this.#socket && this.#closed();
		this.#timer = setTimeout(() => this.#closed(), Connection.HANDSHAKE_MS);
		this.#enter(this.phase === "connecting" ? "connecting" : "closed");
	}

	/** The network is back, or somebody looks: do not sit out a back-off. A pod's wish is still honoured. */
	hurry() {
		if (!this.#socket && !this.#asked) this.open();
	}

	/** Lets the socket go until open or hurry is called: the page is being frozen or left. */
	rest() {
		this.#letGo();
		this.#enter("closed");
	}

	/** @param {object} event Only while ready. */
	send(event) {
		this.#socket?.send(JSON.stringify(event));
	}

	#receive(/** @type {string} */ data) {
		const event = /** @type {ChatEvent} */ (JSON.parse(data));
		if (event.type === "welcome") {
			clearTimeout(this.#timer);
			this.#enter("replaying");
		} else if (event.type === "live") {
			this.#enter("live");
		} else if (event.type === "reconnect") {
			this.#asked = true;
			this.#openIn(Math.random() * event.within_ms); // all of the pod's clients hear this, so each picks a moment of its own
		}
		this.#onEvent(event);
	}

	#closed() {
		if (this.phase === "live" && now() - this.#openedAt > Connection.GOOD_MS) this.#attempts = 0;
		if (this.#asked) {
			this.#socket = undefined; // the time to come back is set
		} else {
			this.#letGo();
			this.#openIn(Math.random() * Math.min(Connection.CAP_MS, Connection.BASE_MS * 2 ** this.#attempts++));
		}
		this.#enter("closed");
	}

	#openIn(wait = 0) {
		clearTimeout(this.#timer);
		this.retryAt = now() + wait;
		this.#timer = setTimeout(() => this.open(), wait);
	}

	#letGo() {
		clearTimeout(this.#timer);
		this.#asked = false;
		this.#socket?.close();
		this.#socket = undefined;
	}

	#enter(/** @type {Phase} */ phase) {
		this.phase = phase;
		this.#onPhase();
	}
}

/**
 * Everything that has been said, as far as this page remembers: messages, and lines between them.
 *
 * @typedef {{ kind: "message", key: string, id?: string, name: string, text: string, pod?: string, offset?: number, at: number,
 *   mine: boolean, placeholder: boolean, follows: boolean }} Message
 * @typedef {{ kind: "note", text: string } | { kind: "day", at: number }} Line
 * @typedef {(Message | Line) & { nodes?: number }} Item
 */
class Conversation {
	/** Remembered for scrolling back. The oldest are forgotten in batches, so that so large an array moves seldom. */
	static MOST = 20_000;
	static BATCH = 1_000;
	/** One person's messages within this time are one paragraph. */
	static PARAGRAPH_MS = 5 * 60_000;

	/** @type {Item[]} */
	#items = [];
	/** The number of #items[0]. An item keeps its number when older ones are forgotten. */
	start = 0;
	/** @type {Set<string>} The keys of all messages in #items. */
	#keys = new Set();

	get end() {
		return this.start + this.#items.length;
	}

	/** The item with this number, in start..end-1. */
	at(number = 0) {
		return this.#items[number - this.start];
	}

	has(key = "") {
		return this.#keys.has(key);
	}

	/** @param {Omit<Message, "kind" | "follows">} said with a key that is not here yet */
	add(said) {
		const dated = this.#items.findLast((item) => item.kind !== "note");
		if (!dated || !sameDay(dated.at, said.at)) this.#items.push({ kind: "day", at: said.at });
		const last = this.#items.at(-1);
		const follows = last?.kind === "message" && last.name === said.name && last.pod === said.pod && last.mine === said.mine &&
			said.at - last.at < Conversation.PARAGRAPH_MS;
		this.#items.push({ ...said, kind: "message", follows });
		this.#keys.add(said.key);
		this.#forget();
	}

	/** A line between messages. The same line twice in a row says nothing new. */
	note(text = "") {
		const last = this.#items.at(-1);
		if (last?.kind !== "note" || last.text !== text) this.#items.push({ kind: "note", text });
	}

	/** The newest items, without the days, which add derives: so many, and not more text than this. */
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

	#forget() {
		if (this.#items.length < Conversation.MOST + Conversation.BATCH) return;
		for (const item of this.#items.splice(0, Conversation.BATCH)) {
			if (item.kind === "message") this.#keys.delete(item.key);
		}
		this.start += Conversation.BATCH;
	}
}

const sameDay = (a = 0, b = 0) => new Date(a).toDateString() === new Date(b).toDateString();

/** Local time in the reader's manner. Formatters are slow to make, so each is made once. */
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const calendarDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

const dayName = (at = 0) => (sameDay(at, Date.now()) ? texts.today : calendarDay.format(at));

/** A colour for each name, the same on every screen. The style sheet chooses the lightness. */
function hue(name = "") {
	let hash = 0;
	for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
	return Math.round(hash * 137.508) % 360; // the golden angle keeps neighbours apart
}

/** The first letter, or the first whole emoji. */
function initial(name = "") {
	const [first] = new Intl.Segmenter().segment(name);
	return first?.segment.toUpperCase() ?? "";
}

/** What is more than plain text: code between three backticks, and links. Only http and https, so no script hides in one. */
const RICH = /(```[^]+?```|https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}…])/iu;
/** A message of nothing but links must not flood the document: after so many parts (an even number) the rest stays plain. */
const MOST_PARTS = 40;

/** A message's parts: plain, rich, plain, rich, ... */
function parts(text = "") {
	const all = text.split(RICH);
	return all.length < MOST_PARTS ? all : [...all.slice(0, MOST_PARTS), all.slice(MOST_PARTS).join("")];
}

/** A message's text as nodes. */
function textNodes(text = "") {
	return parts(text).map((part, index) => {
		if (index % 2 === 0) return part;
		if (part.startsWith("`")) return element("code", {}, part.slice(3, -3).trim());
		return element("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part);
	});
}

/**
 * The conversation on the screen: a window of rows that moves as the person scrolls, so the document stays small however
 * much is said. Who looks at the end stays at the end; who reads is never moved.
 */
class View {
	/** DOM nodes that rows may use. The page as a whole stays below 1,500. */
	static MOST_NODES = 1_000;
	/** So many rows come at once when the person scrolls towards the window's edge: less than a quarter of the window. */
	static STEP = 20;
	/** Scrolled down to this close to the end is the end: browsers round. */
	static END_PX = 4;

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
	/** The scroll position that is known. */
	#top = 0;
	#marker = element("p", { className: "marker", textContent: texts.newHere });
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
		const resized = new ResizeObserver(() => this.#pin());
		for (const part of [this.#log, this.#rows, byID("pending")]) resized.observe(part);
		this.#rows.addEventListener("click", (click) => this.#toggleDetails(click));
		this.#rows.addEventListener("keydown", (key) => this.#walk(key));
	}

	/** To be rendered at once: a scroll event that is on its way must not undo it. */
	toEnd() {
		this.pinned = true;
	}

	/** Brings the document up to date. Called once per frame. */
	render() {
		if (this.pinned) this.#showEnd();
		else this.#slide();
		this.#mark();
		const last = this.#whens[this.#whens.length - 1];
		if (last && (!this.#tabStop || document.activeElement !== this.#tabStop)) this.#makeTabStop(last);
		this.#pin();
	}

	/** Only a person scrolls upwards. What grows or shrinks between two frames moves the end, and is no wish to leave it. */
	#scrolled() {
		const [top, below] = [this.#log.scrollTop, this.#belowPX()];
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
		if (first >= this.#end || first < this.#first) {
			this.#rows.replaceChildren();
			this.#nodes = 0;
			this.#first = this.#end = first;
		}
		while (this.#first < first) this.#drop(true);
		while (this.#end < end) this.#add(false);
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
		this.#log.ariaBusy = "true"; // old rows that come back are no news
		while (this.#first < start && this.#first < this.#end) this.#drop(true); // the conversation has forgotten them
		if (older || newer) {
			for (let more = View.STEP; more > 0 && (older ? this.#first > start : this.#end < end); more--) this.#add(older);
			while (this.#nodes > View.MOST_NODES) this.#drop(newer);
		}
		const moved = anchor?.isConnected ? anchor.getBoundingClientRect().top - before : 0;
		this.#scrollTo(this.#log.scrollTop + moved);
		this.#log.ariaBusy = "false";
	}

	#firstInView() {
		const top = this.#log.getBoundingClientRect().top;
		return [...this.#rows.children].find((row) => row.getBoundingClientRect().bottom > top);
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
		const when = element("button", {
			type: "button", className: "when", tabIndex: -1, title: fullTime.format(message.at),
			ariaLabel: texts.details(time), ariaExpanded: "false",
		}, time);
		const row = bubble("", message.name, message.placeholder ? [message.text] : textNodes(message.text));
		for (const look of /** @type {const} */ (["follows", "mine", "placeholder"])) row.classList.toggle(look, message[look]);
		row.children[0].after(when);
		if (message.mine) row.append(element("p", { className: "state stored" }, texts.stored));
		return row;
	}

	#toggleDetails(/** @type {Event} */ click) {
		const when = [...this.#whens].find((when) => when === click.target);
		const row = when?.closest("li");
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

/** The DOM nodes of an item's row, details and marker included. Counted once. */
function weight(/** @type {Item} */ item) {
	return (item.nodes ??= item.kind === "message" ? 12 + 2 * parts(item.text).length : 3);
}

/**
 * The row of a message, in its person's colour.
 * @param {string} classes @param {string} name @param {(string | Node)[]} text @param {...Node} more
 */
function bubble(classes, name, text, ...more) {
	const row = element("li", { className: `message ${classes}` },
		element("span", { className: "who", dir: "auto" }, name), element("p", { className: "text", dir: "auto" }, ...text), ...more);
	row.dataset.initial = initial(name);
	row.style.setProperty("--hue", String(hue(name)));
	return row;
}

/**
 * The outbox on the screen, below the conversation.
 * @param {Entry[]} entries @param {(entry: Entry) => string} explain
 */
function showPending(entries, explain) {
	const list = /** @type {HTMLCollectionOf<HTMLElement>} */ (byID("pending").children);
	const rows = new Map(Array.from(list, (row) => [row.dataset.id, row]));
	for (const entry of entries) {
		const row = rows.get(entry.id) ?? byID("pending").appendChild(pendingRow(entry));
		rows.delete(entry.id);
		row.dataset.state = entry.state; // the style sheet shows the actions where there is something to decide
		setText(/** @type {HTMLElement} */ (row.querySelector(".state")), explain(entry));
	}
	for (const row of rows.values()) row.remove();
}

function pendingRow(/** @type {Entry} */ entry) {
	const row = bubble("mine pending", entry.name || texts.guest, [entry.text],
		element("p", { className: "state" }),
		element("div", { className: "actions" },
			element("button", { type: "button", className: "link", value: "again" }, texts.sendAgain),
			element("button", { type: "button", className: "link", value: "remove" }, texts.remove)));
	row.dataset.id = entry.id;
	return row;
}

/** Where a person writes: name, text, and what was sent before. */
class Composer {
	static MOST_REMEMBERED = 50;

	maxBytes = 8192;

	#name = /** @type {HTMLInputElement} */ (byID("name"));
	#text = /** @type {HTMLTextAreaElement} */ (byID("text"));
	#hint = byID("hint");
	#submit;
	/** @type {string[]} Oldest first. */
	#sent = session.get("sent") ?? [];
	/** Which of #sent is shown; #sent.length is the draft. */
	#shown = this.#sent.length;
	#draft = "";

	/** @param {(name: string, text: string) => string | undefined} submit returns why it cannot take the message */
	constructor(submit) {
		this.#submit = submit;
		this.#name.value = local.get("name") ?? "";
		this.#text.value = session.get("draft") ?? "";
		this.#name.addEventListener("input", () => this.#named());
		this.#text.addEventListener("input", () => this.#typed());
		this.#text.addEventListener("keydown", (key) => this.#keyed(key));
		byID("composer").addEventListener("submit", (event) => {
			event.preventDefault();
			this.#send();
		});
		this.#typed();
		// Not on a phone, where the keyboard would cover the conversation.
		if (matchMedia("(hover: hover)").matches) this.focus();
	}

	focus() {
		this.#text.focus({ preventScroll: true });
	}

	#named() {
		let name = this.#name.value;
		while (bytes(name) > MAX_NAME_BYTES) name = [...name].slice(0, -1).join("");
		if (name !== this.#name.value) this.#name.value = name;
		local.set("name", name);
	}

	#typed() {
		const over = bytes(this.#message()) - this.maxBytes;
		this.#say(over > 0 ? texts.tooLong(over) : undefined);
		session.set("draft", this.#text.value);
	}

	#say(/** @type {string | undefined} */ problem) {
		setText(this.#hint, problem ?? texts.hint);
		this.#hint.classList.toggle("problem", problem !== undefined);
	}

	/** What would be sent: indented code stays as it is, half an emoji does not. */
	#message() {
		return this.#text.value.replace(/^\s*\n|\s+$/g, "").toWellFormed();
	}

	#send() {
		const text = this.#message();
		if (!text.trim()) return;
		if (bytes(text) > this.maxBytes) return this.#typed();
		const problem = this.#submit(this.#name.value.trim().toWellFormed(), text);
		if (problem) return this.#say(problem);
		if (this.#sent.at(-1) !== text) this.#sent.push(text);
		this.#sent = this.#sent.slice(-Composer.MOST_REMEMBERED);
		session.set("sent", this.#sent);
		this.#shown = this.#sent.length;
		this.#put("");
		this.focus();
	}

	#keyed(/** @type {KeyboardEvent} */ key) {
		// While a Japanese or Chinese word is being composed, Enter and the arrows belong to the input method.
		if (key.isComposing) return;
		if (key.key === "Enter" && !key.shiftKey && !key.ctrlKey && !key.altKey && !key.metaKey) {
			key.preventDefault();
			this.#send();
		} else if (key.key === "ArrowUp" && this.#text.selectionEnd === 0) {
			this.#recall(key, this.#shown - 1);
		} else if (key.key === "ArrowDown" && this.#shown < this.#sent.length && this.#text.selectionStart === this.#text.value.length) {
			this.#recall(key, this.#shown + 1);
		}
	}

	#recall(/** @type {KeyboardEvent} */ key, /** @type {number} */ which) {
		if (which < 0) return;
		key.preventDefault();
		const older = which < this.#shown;
		if (this.#shown === this.#sent.length) this.#draft = this.#text.value;
		this.#shown = which;
		this.#put(this.#sent[which] ?? this.#draft);
		// The caret stays on the side from which the next arrow leads on.
		const caret = older ? 0 : this.#text.value.length;
		this.#text.setSelectionRange(caret, caret);
	}

	#put(text = "") {
		this.#text.value = text;
		this.#typed();
	}
}

/**
 * The head of the page: where one is, and how the connection is.
 * @param {Connection} connection @param {string} pod "" until the first welcome @param {number} unread
 */
function showStatus({ phase, retryAt }, pod, unread) {
	const closed = phase === "closed";
	byID("connection").dataset.state = phase;
	setText(byID("connection-text"), texts[phase]);
	setText(byID("countdown"), closed ? texts.retryIn(Math.ceil(((retryAt ?? 0) - now()) / 1000)) : "");
	byID("reconnect").hidden = !closed || retryAt === undefined;
	if (pod) setText(byID("heading"), texts.heading(pod)); // until then it stands as the pod that served the page wrote it
	const title = closed ? texts.closed : pod && texts.title(pod);
	if (title) setText(byID("title"), unread > 0 ? texts.unread(unread, title) : title);
}

/** More would only say "many". */
const MOST_PODS = 16;

/** @param {Pod[]} pods @param {string} here @param {boolean} standalone */
function showPods(pods, here, standalone) {
	const chips = pods.slice(0, MOST_PODS).map(({ pod, people }) => {
		const chip = element("li", {}, element("b", {}, pod), element("span", {}, texts.people(people)));
		if (pod === here) chip.ariaCurrent = "true";
		return chip;
	});
	if (pods.length > MOST_PODS) chips.push(element("li", {}, texts.morePods(pods.length - MOST_PODS)));
	// Another pod may have joined this one's own broker.
	if (standalone && pods.length < 2) chips.push(element("li", { className: "standalone" }, texts.standalone));
	byID("pods").replaceChildren(...chips);
}

/** Nobody can read faster. */
const PANEL_MS = 250;

/** Opens and closes "How it works", and keeps it fresh while it is open. */
function followPanel(/** @type {() => void} */ refresh) {
	const panel = byID("panel");
	let timer = 0;
	byID("try").append(...texts.tryThese.map((text) => element("li", {}, text)));
	byID("how").addEventListener("click", () => {
		panel.hidden = !panel.hidden;
		byID("how").ariaExpanded = String(!panel.hidden);
		clearInterval(timer);
		if (panel.hidden) return;
		refresh();
		timer = setInterval(refresh, PANEL_MS);
	});
}

/**
 * The way of the last message, with what was measured if it was one's own. Two clocks are never mixed: the browser's
 * measures the round trip, the pod's measures its part of it.
 *
 * @typedef {{ id: string, sentAt: number, roundTrip?: number, podMS?: number }} Journey
 * @param {string[]} steps @param {Journey} [journey]
 */
function showPath(steps, journey) {
	const [path, figures] = [byID("path"), byID("figures")];
	if (path.textContent !== steps.join("")) path.replaceChildren(...steps.map((step) => element("li", {}, step)));
	const whole = journey?.roundTrip ?? 0;
	const key = `${whole} ${journey?.podMS}`;
	if (figures.dataset.key === key) return;
	figures.dataset.key = key;
	figures.replaceChildren();
	for (const [name, ms] of /** @type {const} */ ([[texts.roundTrip, journey?.roundTrip], [texts.podPart, journey?.podMS]])) {
		if (ms === undefined) continue;
		const figure = element("dd", {}, texts.milliseconds(ms));
		figure.style.setProperty("--share", String(ms / whole));
		figures.append(element("dt", {}, name), figure);
	}
}

/**
 * A line across the page for what concerns everybody.
 * @param {string} name of which there is one at a time @param {string | undefined} text none takes it away @param {HTMLElement[]} actions
 */
function showBanner(name, text, ...actions) {
	const box = byID("banners");
	const old = box.querySelector(`.${name}`);
	if (old?.firstChild?.textContent === text) return;
	old?.remove();
	if (text) box.append(element("p", { className: name }, element("span", {}, text), ...actions));
}

/** Puts the words into index.html. */
function fillTexts() {
	const words = /** @type {Record<string, any>} */ (texts);
	for (const node of document.querySelectorAll("[data-text], [data-label], [data-placeholder]")) {
		const { text, label, placeholder } = /** @type {HTMLElement} */ (node).dataset;
		if (text) node.textContent = words[text];
		if (label) node.setAttribute("aria-label", words[label]);
		if (placeholder) node.setAttribute("placeholder", words[placeholder]);
	}
}

/** The page: it hears events and people, and tells the parts. */
class Page {
	/** What a reload brings back without asking a pod. */
	static KEPT_ITEMS = 200;
	static KEPT_LETTERS = 500_000;
	static KEPT_MS = 1_000;
	/** A hidden tab gets no animation frames. */
	static HIDDEN_FRAME_MS = 200;
	/** How often to look whether the connection is really alive, and what is suspicious: no tick, no ack. */
	static CHECK_MS = 5_000;
	static SLEPT_MS = 90_000; // browsers stretch the timers of hidden tabs to a minute
	static OVERDUE_MS = 20_000;

	#version = document.querySelector('meta[name="version"]')?.getAttribute("content");
	/** @type {Welcome | undefined} */
	#welcome;
	/** @type {Pod[]} */
	#pods = [];
	#kafka = "up";
	#position = "";
	#lastOffset = -1;
	#unread = 0;
	/** What comes before the first "live" is history, not news. */
	#caughtUpOnce = false;
	/** @type {Journey | undefined} */
	#journey;
	/** @type {Message | undefined} */
	#lastMessage;
	#frameAsked = false;
	#saveTimer = 0;
	#countdownTimer = 0;

	#outbox = new Outbox(session.get("outbox") ?? [], (entries) => session.set("outbox", entries));
	#conversation = new Conversation();
	#connection = new Connection(() => this.#address(), (event) => this.#hear(event), () => this.#phaseChanged());
	#view = new View(this.#conversation, (message) => this.#describe(message), () => this.#askFrame());
	#composer = new Composer((name, text) => this.#say(name, text));

	start() {
		this.#restore();
		followPanel(() => this.#showPath());
		byID("reconnect").addEventListener("click", () => {
			this.#connection.open();
			this.#composer.focus();
		});
		byID("pending").addEventListener("click", ({ target }) => {
			if (target instanceof HTMLButtonElement) this.#decide(target.closest("li")?.dataset.id, target.value);
		});
		byID("latest").addEventListener("click", () => {
			this.#view.toEnd();
			this.#frame();
			this.#composer.focus();
		});
		this.#followLifecycle();
		this.#connection.open();
	}

	#hear(/** @type {ChatEvent} */ event) {
		switch (event.type) {
			case "welcome": this.#welcomed(event); break;
			case "message": this.#received(event); break;
			case "live": this.#caughtUp(event.position); break;
			case "ack": this.#acked(event); break;
			case "reject": this.#refused(event.id, event.reason); break;
			case "gap": this.#lost(texts.gap(event.missing)); break;
			case "reset": this.#startAnew(texts.reset); break;
			case "status": this.#kafkaIs(event.kafka); break;
			case "pods":
				this.#pods = event.pods;
				showPods(this.#pods, this.#welcome?.pod ?? "", this.#welcome?.standalone ?? false);
		}
		this.#askFrame();
	}

	#welcomed(/** @type {Welcome} */ welcome) {
		const before = this.#welcome?.pod ?? session.get("pod");
		this.#welcome = welcome;
		session.set("pod", welcome.pod);
		this.#composer.maxBytes = welcome.max_bytes || this.#composer.maxBytes;
		byID("log").ariaBusy = "true"; // a replay is not read out line by line

		if (welcome.resumed) {
			if (before && before !== welcome.pod) this.#conversation.note(texts.moved(welcome.pod));
		} else if (!this.#position) {
			this.#outbox.doubt();
		} else if (welcome.reason === "gap") {
			this.#lost(texts.gap(undefined));
		} else {
			this.#startAnew(welcome.reason === "reset" ? texts.reset : texts.fresh);
		}

		this.#kafkaIs(welcome.kafka);
		showPods(this.#pods, welcome.pod, welcome.standalone);
		showBanner("partitions", welcome.partitions > 1 ? texts.partitions(welcome.topic, welcome.partitions) : undefined);
		const old = welcome.version && this.#version && welcome.version !== this.#version;
		const reload = element("button", { type: "button", className: "link", onclick: () => location.reload() }, texts.reload);
		showBanner("version", old ? texts.newVersion : undefined, reload);
	}

	#received(/** @type {Said} */ event) {
		this.#position = event.position;
		this.#lastOffset = event.offset;
		this.#saveSoon();
		this.#settle(event.offset);
		const entry = this.#outbox.get(event.id);
		if (entry) this.#outbox.remove(entry); // one's own message event is an ack
		this.#show(event.id || event.position, Boolean(entry), event);
	}

	/** Adds a message to the conversation, unless it is there. */
	#show(key = "", mine = false, /** @type {Partial<Said> & { text: string }} */ said) {
		if (this.#conversation.has(key)) return;
		this.#conversation.add({
			key, mine, text: String(said.text), id: said.id, pod: said.pod, offset: said.offset,
			name: said.name || (said.pod || mine ? texts.guest : texts.fromKafka),
			at: Date.parse(said.time ?? "") || Date.now(),
			placeholder: Boolean(said.placeholder),
		});
		const number = this.#conversation.end - 1;
		this.#lastMessage = /** @type {Message} */ (this.#conversation.at(number));
		if (mine || !this.#caughtUpOnce || this.#looking) return;
		if (this.#unread++ === 0) this.#view.firstUnread = number;
	}

	/** Whether the person sees what is added at the end. */
	get #looking() {
		return !document.hidden && this.#view.pinned;
	}

	#lost(line = "") {
		this.#conversation.note(line);
		this.#outbox.doubt();
		this.#saveSoon();
	}

	/** What follows is another log. What was stored belongs to the old one, above the line that says so. */
	#startAnew(line = "") {
		this.#settle(Infinity);
		this.#position = "";
		this.#lastOffset = -1;
		this.#lost(line);
	}

	#caughtUp(/** @type {string | undefined} */ position) {
		if (position) this.#position = position;
		byID("log").ariaBusy = "false";
		this.#caughtUpOnce = true;
		this.#saveSoon();
		// What is sent and was not in the replay did not arrive, or not yet: again, with the same id.
		for (const entry of this.#outbox.all("sent", "waiting")) this.#send(entry);
	}

	#acked(/** @type {{ id: string, offset: number, ms: number }} */ ack) {
		if (this.#journey?.id === ack.id) {
			this.#journey.roundTrip = now() - this.#journey.sentAt;
			this.#journey.podMS = ack.ms;
		}
		const entry = this.#outbox.get(ack.id);
		if (!entry) return;
		this.#outbox.change(entry, { state: "stored", offset: ack.offset });
		this.#settle(this.#lastOffset + 1);
	}

	/** Messages of one's own that are stored before this offset, where a gap was: their events will not come. */
	#settle(before = 0) {
		for (const entry of this.#outbox.all("stored")) {
			if ((entry.offset ?? 0) >= before) continue;
			this.#outbox.remove(entry);
			this.#show(entry.id, true, { ...entry, pod: this.#welcome?.pod });
		}
	}

	#refused(/** @type {string | undefined} */ id, /** @type {string} */ reason) {
		const entry = this.#outbox.get(id);
		if (entry) this.#outbox.change(entry, { state: "refused", reason });
		else this.#conversation.note(texts.refused(reason));
		setText(byID("announcer"), texts.refused(reason));
	}

	#kafkaIs(/** @type {"up" | "down"} */ state) {
		this.#kafka = state;
		showBanner("kafka", state === "down" ? texts.kafkaDown : undefined);
	}

	/** @returns {string | undefined} why the message cannot be taken */
	#say(name = "", text = "") {
		if (this.#outbox.full) return texts.tooMany;
		this.#outbox.add(name, text);
		this.#view.firstUnread = undefined;
		this.#view.toEnd();
		this.#sendWaiting();
		this.#frame();
	}

	#decide(id = "", action = "again") {
		const entry = this.#outbox.get(id);
		if (!entry) return;
		if (action === "again") this.#outbox.again(entry);
		else this.#outbox.remove(entry);
		this.#sendWaiting();
		this.#composer.focus();
		this.#askFrame();
	}

	#sendWaiting() {
		if (this.#connection.ready) for (const entry of this.#outbox.all("waiting")) this.#send(entry);
	}

	#send(/** @type {Entry} */ entry) {
		// Kept as sent before it is: a page that dies in between must not take it for one that never left.
		const { id, name, text, again } = entry;
		this.#outbox.change(entry, { state: "sent", again: true });
		this.#journey = { id, sentAt: now() };
		this.#connection.send({ type: "message", id, name, text, again });
	}

	#address() {
		const url = new URL("ws", location.href);
		url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
		url.hash = "";
		url.search = String(new URLSearchParams(this.#position ? { after: this.#position } : { last: String(HISTORY) }));
		return url;
	}

	#phaseChanged() {
		clearInterval(this.#countdownTimer);
		if (this.#connection.phase === "closed") this.#countdownTimer = setInterval(() => this.#askFrame(), 250);
		this.#askFrame();
	}

	/** Tabs are hidden, frozen, kept for the back button; laptops sleep; networks change. */
	#followLifecycle() {
		document.addEventListener("visibilitychange", () => {
			if (document.hidden) this.#save();
			else this.#connection.hurry();
			this.#frame(); // the next frame that was asked for may never come in the other state
		});
		// A frozen page cannot answer, and one that the back button may show again must not hold a socket.
		const rest = () => {
			this.#save();
			this.#connection.rest();
		};
		const wake = () => this.#connection.hurry();
		document.addEventListener("freeze", rest);
		document.addEventListener("resume", wake);
		addEventListener("pagehide", rest);
		addEventListener("pageshow", wake);
		// On another network the old socket may be dead without knowing.
		addEventListener("online", () => (this.#connection.ready ? this.#connection.open() : wake()));

		let checked = Date.now();
		setInterval(() => {
			const slept = Date.now() - checked > Page.SLEPT_MS;
			checked = Date.now();
			const waits = this.#journey && this.#outbox.get(this.#journey.id)?.state === "sent";
			const overdue = waits && this.#kafka === "up" && now() - (this.#journey?.sentAt ?? 0) > Page.OVERDUE_MS;
			if (this.#connection.phase === "live" && (slept || overdue)) this.#connection.open();
		}, Page.CHECK_MS);
	}

	#saveSoon() {
		this.#saveTimer ||= setTimeout(() => this.#save(), Page.KEPT_MS);
	}

	/** Position and messages are kept together: a position without its messages would be a hole on the screen. */
	#save() {
		clearTimeout(this.#saveTimer);
		this.#saveTimer = 0;
		session.set("conversation", {
			position: this.#position,
			lastOffset: this.#lastOffset,
			items: this.#conversation.newest(Page.KEPT_ITEMS, Page.KEPT_LETTERS),
		});
	}

	#restore() {
		const kept = session.get("conversation");
		if (!kept) return;
		this.#position = kept.position;
		this.#lastOffset = kept.lastOffset;
		this.#caughtUpOnce = Boolean(kept.position);
		for (const item of kept.items) {
			if (item.kind === "note") this.#conversation.note(item.text);
			else this.#conversation.add(item);
		}
		for (const entry of this.#outbox.all()) if (this.#conversation.has(entry.id)) this.#outbox.remove(entry);
	}

	/** Many events, one frame. */
	#askFrame() {
		if (this.#frameAsked) return;
		this.#frameAsked = true;
		if (document.hidden) setTimeout(() => this.#frame(), Page.HIDDEN_FRAME_MS);
		else requestAnimationFrame(() => this.#frame());
	}

	#frame() {
		this.#frameAsked = false;
		this.#view.render();
		showPending(this.#outbox.all(), (entry) => this.#explain(entry));
		if (this.#looking) this.#unread = 0;
		byID("latest").hidden = this.#view.pinned;
		setText(byID("latest"), this.#unread > 0 ? texts.newMessages(this.#unread) : texts.latest);
		byID("empty").hidden = !this.#caughtUpOnce || this.#conversation.end > 0 || this.#outbox.all().length > 0;
		showStatus(this.#connection, this.#welcome?.pod ?? "", this.#unread);
	}

	#explain(/** @type {Entry} */ entry) {
		switch (entry.state) {
			case "unsure": return texts.unsure;
			case "stored": return texts.stored;
			case "refused": return texts.refused(entry.reason ?? "");
		}
		if (!this.#connection.ready) return texts.waitsForConnection;
		return this.#kafka === "down" ? texts.waitsForKafka : texts.sending;
	}

	#place(/** @type {Message} */ message) {
		return texts.place(this.#welcome?.topic, message.offset);
	}

	#describe(/** @type {Message} */ message) {
		const place = this.#place(message);
		return `${fullTime.format(message.at)}: ${message.pod ? texts.origin(message.pod, place) : texts.originKafka(place)}`;
	}

	#showPath() {
		const message = this.#lastMessage;
		if (!message) return showPath([texts.noPath]);
		const people = this.#pods.reduce((sum, pod) => sum + pod.people, 0);
		showPath([
			message.mine ? texts.you : message.name,
			...(message.pod ? [texts.writtenBy(message.pod)] : []),
			texts.keptAt(this.#place(message)),
			texts.allPods(Math.max(1, this.#pods.length)),
			texts.everybody(Math.max(1, people)),
		], this.#journey?.id === message.id ? this.#journey : undefined);
	}
}

try {
	fillTexts();
	new Page().start();
} catch (problem) {
	document.body.prepend(element("p", { role: "alert" }, texts.broken));
	throw problem;
}
