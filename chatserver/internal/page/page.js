// @ts-check
/**
 * The page of the chat: it hears people and the pod, and tells the parts.
 *
 *   composer.js ──▶ client.js ──▶ connection.js ──▶ pod ──▶ Kafka
 *   view.js, map.js ◀── client.js ◀── connection.js ◀── pod ◀──┘
 */
/** @import { Ack, Entry, Pod, Said } from "./client.js" */
/** @import { Journey } from "./map.js" */
/** @import { Item, Message } from "./view.js" */
import { Chat } from "./client.js";
import { Composer, showPending } from "./composer.js";
import { byID, cleanName, element, fillWords, session, setText } from "./dom.js";
import { Panel, showBanners, showStatus, Strip } from "./map.js";
import { Conversation, fullTime, View } from "./view.js";
import { words } from "./words.js";

class Page {
	/** What a reload brings back without asking a pod. */
	static KEPT_ITEMS = 200;
	static KEPT_LETTERS = 500_000;
	static KEPT_MS = 1_000;
	/** So long after the end of a replay its rows are in the document; until then they are not read out. */
	static QUIET_MS = 500;
	/** A hidden tab gets no animation frames. */
	static HIDDEN_FRAME_MS = 200;
	/** So many older messages come at once. */
	static OLDER = 200;

	/** @type {Pod[]} */
	#pods = [];
	#unread = 0;
	/** The first unread message that the person has been led to. */
	#ledTo = NaN;
	/** What comes before the first "live" is history, not news. */
	#caughtUpOnce = false;
	#phase = "";
	/** Nothing has answered at its address. */
	#podWasGone = false;
	/** @type {"ask" | "reading" | "failed" | "begins" | "ends"} What is known of older messages. */
	#older = "ask";
	/** @type {number | undefined} Of the message that "Find" shows. */
	#found;
	/** @type {Journey | undefined} */
	#journey;
	/** @type {Message | undefined} */
	#lastMessage;
	#frameAsked = false;
	/** @type {ReturnType<typeof setTimeout> | undefined} */
	#saveTimer;
	/** @type {ReturnType<typeof setInterval> | undefined} */
	#countdown;

	#conversation = new Conversation();
	#chat = this.#restored();
	#view = new View(this.#conversation, (message) => this.#describe(message), () => this.#askFrame());
	#composer = new Composer((name, text) => this.#say(name, text));
	#strip = new Strip();
	#panel = new Panel(() => this.#showPanel());

	start() {
		byID("reconnect").addEventListener("click", () => {
			this.#chat.open();
			this.#composer.focus();
		});
		byID("pending").addEventListener("click", ({ target }) => {
			const button = /** @type {Element} */ (target).closest("button"); // a translator puts elements of its own into it
			if (!button) return;
			this.#chat.decide(button.closest("li")?.dataset.id ?? "", button.value === "again" ? "again" : "remove");
			this.#composer.focus();
		});
		byID("latest").addEventListener("click", () => this.#toNews());
		byID("older").addEventListener("click", () => this.#readOlder());
		this.#followFind();
		this.#followKeys();
		this.#followLifecycle();
		this.#panel.start();
		this.#chat.open();
	}

	/** The chat as this tab left it. What does not fit is of another version, and is forgotten. */
	#restored() {
		const url = new URL("ws", location.href);
		url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
		url.hash = "";
		const listener = {
			message: (/** @type {Said} */ said, /** @type {boolean} */ mine) => this.#received(said, mine),
			lost: (/** @type {"gap" | "reset" | "fresh"} */ kind, missing = 0) => this.#note(kind === "gap" ? words.gap(missing) : words[kind]),
			moved: (/** @type {string} */ pod) => {
				this.#conversation.note(words.moved(pod), true);
				this.#panel.did("stop");
			},
			sent: (/** @type {Entry} */ { id, sentAt = 0 }) => {
				this.#journey = { id, sentAt };
				session.set("outbox", this.#chat.outbox);
			},
			acked: (/** @type {Ack} */ { id, ms }) => {
				if (this.#journey?.id === id) Object.assign(this.#journey, { roundTrip: performance.now() - this.#journey.sentAt, podMS: ms });
			},
			refused: (/** @type {string} */ reason, /** @type {string | undefined} */ id) => {
				if (!id) this.#note(words.refused(reason));
				setText(byID("announcer"), words.refused(reason));
			},
			changed: () => this.#changed(),
		};
		try {
			const kept = session.get("conversation", { pod: "", position: "", lastOffset: -1, items: /** @type {Item[]} */ ([]) });
			if (typeof kept.position !== "string" || typeof kept.lastOffset !== "number") throw new TypeError("of another version");
			const messages = kept.items.map((item) => {
				if (item.kind === "note") this.#conversation.note(String(item.text), item.moved);
				if (item.kind !== "message") return "";
				if (typeof item.text !== "string" || typeof item.name !== "string" || !Number.isFinite(item.at)) throw new TypeError("of another version");
				this.#conversation.add(item);
				return item.id || item.position;
			});
			this.#caughtUpOnce = kept.position !== "";
			const outbox = session.get("outbox", /** @type {Entry[]} */ ([])).filter((entry) => typeof entry.id === "string" && typeof entry.text === "string");
			return new Chat(url, listener, { ...kept, known: messages, outbox });
		} catch {
			this.#conversation = new Conversation();
			this.#caughtUpOnce = false;
			session.set("conversation", null);
			return new Chat(url, listener);
		}
	}

	#received(/** @type {Said} */ said, /** @type {boolean} */ mine) {
		this.#lastMessage = this.#message(said, mine);
		this.#conversation.add(this.#lastMessage);
		this.#saveSoon();
		if (this.#caughtUpOnce && this.#chat.phase === "live") {
			this.#strip.pass(said.pod);
			if (!said.pod) this.#panel.did("write");
		}
		if (mine || !this.#caughtUpOnce || this.#looking) return;
		if (this.#unread++ === 0) this.#view.firstUnread = this.#conversation.end - 1;
	}

	/** @returns {Message} */
	#message(/** @type {Said} */ { id, name = "", text, pod, offset, position, time, placeholder }, mine = false) {
		const shown = cleanName(name);
		return {
			kind: "message", id, mine, pod, offset, position, text: String(text), at: Date.parse(time ?? "") || Date.now(),
			name: shown || (pod || mine ? words.guest : words.program), nameless: !shown, placeholder: Boolean(placeholder),
		};
	}

	/** Whether the person sees what is added at the end. */
	get #looking() {
		return !document.hidden && this.#view.pinned;
	}

	#note(text = "") {
		this.#conversation.note(text);
		this.#saveSoon();
	}

	/** The connection, the pods, Kafka or the outbox has changed. */
	#changed() {
		const { phase, pods, trouble, welcome } = this.#chat;
		session.set("outbox", this.#chat.outbox);
		if (phase !== this.#phase) {
			this.#phase = phase;
			clearInterval(this.#countdown);
			if (phase === "closed") this.#countdown = setInterval(() => this.#askFrame(), 250);
			if (phase === "replaying") byID("log").ariaBusy = "true"; // a replay is not read out line by line
			if (phase === "live") this.#caughtUp();
		}
		if (trouble?.status === 0) this.#podWasGone = true;
		if (pods !== this.#pods) {
			this.#strip.heard(pods);
			if (this.#pods.length && pods.length > this.#pods.length) this.#panel.did("pod");
			if (welcome?.standalone && pods.length < this.#pods.length) this.#panel.did("stop");
			if (pods.reduce((sum, { people }) => sum + people, 0) > 1) this.#panel.did("tab");
			this.#pods = pods;
		}
		this.#askFrame();
	}

	#caughtUp() {
		if (!this.#caughtUpOnce) this.#strip.heard(this.#chat.pods);
		this.#caughtUpOnce = true;
		if (this.#podWasGone) this.#panel.did("stop");
		// Another pod may have more. But a replay from anew that is no longer than this is all that the pod has.
		const all = !this.#chat.welcome?.resumed && this.#conversation.end - this.#conversation.start < Chat.HISTORY;
		if (this.#older !== "begins") this.#older = all ? "ends" : "ask";
		setTimeout(() => (byID("log").ariaBusy = String(this.#chat.phase !== "live")), Page.QUIET_MS);
		this.#saveSoon();
	}

	/** @returns {string | undefined} why the message cannot be taken */
	#say(name = "", text = "") {
		if (!this.#chat.say(text, name)) return words.tooMany;
		this.#view.firstUnread = undefined;
		this.#unread = 0;
		this.#view.toEnd();
		this.#frame();
	}

	/** To the first of the new messages, and the next time to the end. */
	#toNews() {
		const first = this.#view.firstUnread;
		if (this.#unread > 0 && first !== undefined && first !== this.#ledTo && !this.#view.sees(first)) {
			this.#ledTo = first;
			this.#view.reveal(first);
		} else {
			this.#view.toEnd();
			this.#composer.focus();
		}
		this.#frame();
	}

	async #readOlder() {
		const oldest = this.#conversation.oldest;
		if (!oldest || this.#older === "reading") return;
		this.#older = "reading";
		this.#askFrame();
		try {
			const { messages, gone } = await this.#chat.older(oldest.position, Page.OLDER);
			const before = messages.filter(({ offset }) => offset < oldest.offset);
			this.#conversation.prepend(before.map((said) => this.#message(said)));
			this.#view.grown();
			this.#older = gone ? "ends" : messages.length < Page.OLDER ? "begins" : "ask";
		} catch {
			this.#older = "failed";
		}
		this.#askFrame();
	}

	#followFind() {
		const [form, field] = [byID("find"), /** @type {HTMLInputElement} */ (byID("find-text"))];
		const go = (/** @type {number} */ step, /** @type {number} */ from) => {
			const found = field.value ? this.#conversation.find(field.value, from, step) : undefined;
			setText(byID("find-result"), !field.value ? "" : found === undefined ? words.notFound : "");
			if (found !== undefined) {
				this.#found = found;
				this.#view.reveal(found);
				const { name, text } = /** @type {Message} */ (this.#conversation.at(found));
				setText(byID("announcer"), words.found(`${name}: ${text.slice(0, 200)}`));
			} else if (!field.value) {
				this.#found = undefined;
			}
			this.#frame();
		};
		const next = (/** @type {number} */ step) => go(step, this.#found === undefined ? this.#conversation.end - 1 : this.#found + step);
		field.addEventListener("input", () => go(-1, this.#conversation.end - 1));
		byID("find-next").addEventListener("click", () => next(1));
		byID("find-close").addEventListener("click", () => this.#openFind(false));
		byID("find-open").addEventListener("click", () => this.#openFind(form.hidden));
		form.addEventListener("submit", (event) => {
			event.preventDefault();
			next(-1);
		});
	}

	#openFind(open = true) {
		byID("find").hidden = !open;
		byID("find-open").ariaExpanded = String(open);
		this.#found = undefined;
		this.#view.point(undefined);
		if (open) /** @type {HTMLInputElement} */ (byID("find-text")).select();
		else this.#composer.focus();
	}

	#followKeys() {
		document.addEventListener("keydown", (key) => {
			const plain = !key.ctrlKey && !key.metaKey && !key.altKey && !key.isComposing;
			const writing = document.activeElement?.matches("input, textarea");
			if ((key.ctrlKey || key.metaKey) && key.key === "f" && byID("find").hidden) {
				// The browser finds only what is in the document. Whoever presses Ctrl+F again gets the browser's own search.
				key.preventDefault();
				this.#openFind(true);
			} else if (key.key === "Escape" && plain) {
				this.#escape();
			} else if (plain && !writing && key.key.length === 1 && key.key !== " ") {
				this.#composer.focus(); // before the letter is typed, so that it gets there
			}
		});
	}

	/** Closes what is open, the newest first. If nothing is open, goes back to the text field. */
	#escape() {
		if (!byID("find").hidden) return this.#openFind(false);
		if (this.#panel.isOpen) return this.#panel.open(false);
		this.#view.toEnd();
		this.#composer.focus();
		this.#frame();
	}

	/** Tabs are hidden, frozen, kept for the back button; laptops sleep; networks change. */
	#followLifecycle() {
		document.addEventListener("visibilitychange", () => {
			if (document.hidden) this.#save();
			else this.#chat.hurry();
			this.#frame(); // the next frame that was asked for may never come in the other state
		});
		// A frozen page cannot answer, and one that the back button may show again must not hold a socket.
		const rest = () => {
			this.#save();
			this.#chat.rest();
		};
		const wake = () => this.#chat.hurry();
		for (const name of ["freeze", "pagehide"]) addEventListener(name, rest, true);
		for (const name of ["resume", "pageshow"]) addEventListener(name, wake, true);
		// On another network the old socket may be dead without knowing.
		addEventListener("online", () => (this.#chat.ready ? this.#chat.open() : wake()));
	}

	#saveSoon() {
		this.#saveTimer ??= setTimeout(() => this.#save(), Page.KEPT_MS);
	}

	/** Position and messages are kept together: a position without its messages would be a hole on the screen. */
	#save() {
		clearTimeout(this.#saveTimer);
		this.#saveTimer = undefined;
		const { position, lastOffset, welcome } = this.#chat;
		session.set("conversation", { pod: welcome?.pod, position, lastOffset, items: this.#conversation.newest(Page.KEPT_ITEMS, Page.KEPT_LETTERS) });
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
		this.#view.point(this.#found);
		showPending(this.#chat.outbox, (entry) => this.#explain(entry));
		if (this.#looking) this.#unread = 0;
		byID("latest").hidden = this.#view.pinned;
		setText(byID("latest"), this.#unread > 0 ? words.newMessages(this.#unread) : words.latest);
		byID("empty").hidden = !this.#caughtUpOnce || this.#conversation.end > 0 || this.#chat.outbox.length > 0;
		showStatus(this.#chat, this.#unread);
		showBanners(this.#chat);
		const { welcome, pods, lastOffset } = this.#chat;
		this.#composer.maxBytes = welcome?.max_bytes || this.#composer.maxBytes;
		this.#composer.fix(welcome?.name);
		this.#strip.show({ pods, here: welcome?.pod ?? "", standalone: Boolean(welcome?.standalone), topic: welcome?.topic ?? "", read: lastOffset + 1 });
		this.#showOlder();
	}

	/** A pod that does not say where it runs is an old one, and cannot read on. */
	#showOlder() {
		const { oldest, full } = this.#conversation;
		if (oldest?.offset === 0) this.#older = "begins";
		const known = this.#chat.welcome?.where !== undefined && oldest && this.#view.atStart && !full;
		const ended = this.#older === "begins" || this.#older === "ends";
		byID("older").style.visibility = known && !ended ? "" : "hidden"; // its place stays, so that nothing moves
		setText(byID("older"), { ask: words.older, reading: words.readingOlder, failed: words.olderFailed, begins: "", ends: "" }[this.#older]);
		setText(byID("log-start-text"), !known || !ended ? "" : this.#older === "begins" ? words.begins : words.logEnds);
	}

	#explain(/** @type {Entry} */ entry) {
		switch (entry.state) {
			case "unsure": return words.unsure;
			case "stored": return words.stored;
			case "refused": return words.refused(entry.reason ?? "");
		}
		if (!this.#chat.ready) return words.waitsForConnection;
		return this.#chat.kafka === "down" ? words.waitsForKafka : words.sending;
	}

	#place(/** @type {Message} */ message) {
		return words.place(this.#chat.welcome?.topic, message.offset);
	}

	#describe(/** @type {Message} */ message) {
		const place = this.#place(message);
		return `${fullTime.format(message.at)}: ${message.pod ? words.origin(message.pod, place) : words.originKafka(place)}`;
	}

	#showPanel() {
		const { welcome, pods } = this.#chat;
		this.#panel.showLessons(welcome ?? {}, pods.length);
		const message = this.#lastMessage;
		if (!message) return this.#panel.showPath([words.noPath]);
		const people = pods.reduce((sum, pod) => sum + pod.people, 0);
		this.#panel.showPath([
			message.mine ? words.you : message.name,
			...(message.pod ? [words.writtenBy(message.pod)] : []),
			words.keptAt(this.#place(message)),
			words.allPods(Math.max(1, pods.length)),
			words.everybody(Math.max(1, people)),
		], this.#journey?.id === message.id ? this.#journey : undefined);
	}
}

document.getElementById("stuck")?.remove();
try {
	fillWords();
	new Page().start();
} catch (problem) {
	document.body.prepend(element("p", { role: "alert" }, words.broken));
	throw problem;
}
