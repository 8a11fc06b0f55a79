// @ts-check
import { Connection } from "./connection.js";

/**
 * The protocol chat.v1 from a client's side, without a document: what is said appears once, whatever is killed. The page
 * imports this module, and so may a program (README.md has a bot). It needs WebSocket, fetch and timers, nothing else.
 *
 *   say ──▶ Outbox ──▶ Connection ──▶ pod ──▶ Kafka
 *   Listener ◀── Chat ◀── Connection ◀── pod ◀──┘
 *
 * testdata/client.txt is the script that this module and the client of the fault suite both pass.
 */

/**
 * The events of a pod. Unknown types and fields are ignored, and fields marked ? are of newer pods, so that old and new
 * pods and pages work together.
 *
 * @typedef {{ pod: string, people: number, offset?: number, end?: number }} Pod offset: how far the pod has read; end: where
 *   the topic ended for it then
 * @typedef {{ type: "welcome", pod: string, topic: string, resumed: boolean, reason?: "fresh" | "gap" | "reset", standalone: boolean,
 *   partitions: number, max_bytes: number, kafka: "up" | "down", version: string, where?: "laptop" | "cluster", broker?: string, name?: string }} Welcome
 * @typedef {{ type: "message", offset: number, position: string, id?: string, name?: string, text: string, pod?: string, time: string,
 *   placeholder?: boolean }} Said
 * @typedef {{ type: "ack", id: string, offset: number, ms: number }} Ack
 * @typedef {Welcome | Said | Ack
 *   | { type: "live", position?: string }
 *   | { type: "reject", id?: string, reason: string }
 *   | { type: "gap", missing?: number }
 *   | { type: "reset" }
 *   | { type: "status", kafka: "up" | "down", reason?: string }
 *   | { type: "pods", pods: Pod[] }
 *   | { type: "reconnect", within_ms: number }} ChatEvent
 */

/** An id that nobody else has. crypto.randomUUID is missing on plain http, where a lab's pods live. */
const randomID = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * What was said and has not come back as a message yet, oldest first.
 *
 * - waiting: never given to a socket, so it cannot be in the topic
 * - sent: given to a socket; it may be in the topic
 * - unsure: was sent, and the history that would tell was lost; the person decides
 * - stored: read back from the topic by the pod; its message event is on the way
 * - refused: will never appear
 *
 * @typedef {"waiting" | "sent" | "unsure" | "stored" | "refused"} State
 * @typedef {{ id: string, name: string, text: string, state: State, sentAt?: number, reason?: string, offset?: number, again?: true }} Entry
 */
class Outbox {
	/** More would be a script, not a person. */
	static MOST = 40;

	/** @type {Map<string, Entry>} In the order of writing. */
	#entries = new Map();

	/** @param {Entry[]} saved */
	constructor(saved) {
		for (const entry of saved) this.#entries.set(entry.id, entry);
	}

	/** @param {...State} states none means all */
	all(...states) {
		return [...this.#entries.values()].filter((entry) => !states.length || states.includes(entry.state));
	}

	get(id = "") {
		return this.#entries.get(id);
	}

	/** @returns {string | undefined} the new entry's id; undefined: too many are waiting */
	add(text = "", name = "") {
		if (this.#entries.size >= Outbox.MOST) return;
		const id = randomID();
		this.#entries.set(id, { id, name, text, state: "waiting" });
		return id;
	}

	remove(id = "") {
		this.#entries.delete(id);
	}

	/** The history that would have shown what became of sent messages is lost. */
	doubt() {
		for (const entry of this.all("sent")) entry.state = "unsure";
	}

	/**
	 * Says an entry again. An unsure entry keeps its id: if the first copy is in the topic after all, every pod drops the
	 * second. A refused entry is done with, so the new attempt is a new message.
	 * @param {Entry} entry
	 */
	again(entry) {
		if (entry.state === "unsure") {
			entry.state = "waiting";
		} else {
			this.remove(entry.id);
			this.add(entry.text, entry.name);
		}
	}
}

/**
 * What somebody may want to hear of a Chat. All methods are optional.
 *
 * @typedef {object} Listener
 * @property {(said: Said, mine: boolean) => void} [message] in the topic's order, each once
 * @property {(kind: "gap" | "reset" | "fresh", missing?: number) => void} [lost] messages are missing here, or another log
 *   starts here, or the position was not understood
 * @property {(pod: string) => void} [moved] another pod goes on, and nothing was missed
 * @property {(entry: Entry) => void} [sent] given to a socket in the next moment
 * @property {(ack: Ack) => void} [acked]
 * @property {(reason: string, id?: string) => void} [refused]
 * @property {() => void} [changed] phase, retryAt, trouble, welcome, kafka, pods or outbox
 */

/** A person, or a program, in a chat. */
export class Chat {
	/** How often to look whether the connection is really alive. */
	static CHECK_MS = 5_000;
	/** How long a sent message may wait for its ack while Kafka is up. */
	static OVERDUE_MS = 20_000;
	/** So much time between two checks means that the machine slept. Browsers stretch the timers of hidden tabs to a minute. */
	static SLEPT_MS = 90_000;
	/** Ids that are remembered, so that no message appears twice. */
	static KNOWN = 20_000;
	/** So many messages are read at first. */
	static HISTORY = 100;

	/** @type {Welcome | undefined} */
	welcome;
	/** @type {"up" | "down"} */
	kafka = "up";
	/** Why Kafka is down, "" if the pod does not say it. */
	reason = "";
	/** @type {Pod[]} */
	pods = [];
	position;
	lastOffset;

	#url;
	#history;
	/** The pod that was reached last. */
	#pod;
	#listener;
	/** @type {Set<string>} */
	#known;
	#outbox;
	#connection = new Connection(() => this.#address(), (event) => this.#hear(event), () => this.#changed());
	/** @type {string | undefined} The pod that has just said welcome, if it is another one and goes on. */
	#movedTo;
	/** @type {ReturnType<typeof setInterval> | undefined} */
	#checks;

	/**
	 * @param {string | URL} url of the websocket, such as ws://localhost:8000/ws
	 * @param {Listener} listener
	 * @param {{ history?: number, pod?: string, position?: string, lastOffset?: number, known?: Iterable<string>, outbox?: Entry[] }} [kept] history:
	 *   so many messages are read at first. The rest: as it was when the program ended last time
	 */
	constructor(url, listener, { history = Chat.HISTORY, pod = "", position = "", lastOffset = -1, known = [], outbox = [] } = {}) {
		this.#url = url;
		this.#listener = listener;
		this.#history = history;
		this.#pod = pod;
		this.position = position;
		this.lastOffset = lastOffset;
		this.#known = new Set(known);
		this.#outbox = new Outbox(outbox.filter(({ id }) => !this.#known.has(id)));
	}

	get phase() { return this.#connection.phase; }
	get ready() { return this.#connection.ready; }
	get retryAt() { return this.#connection.retryAt; }
	get trouble() { return this.#connection.trouble; }
	get outbox() { return this.#outbox.all(); }

	/** Connects now, whatever there was before, and stays connected. */
	open() {
		this.#watch();
		this.#connection.open();
	}

	/** Connects now if it is not connected. */
	hurry() {
		this.#watch();
		this.#connection.hurry();
	}

	/** Lets the connection go, until open or hurry. */
	rest() {
		clearInterval(this.#checks);
		this.#connection.rest();
	}

	/** @returns {string | undefined} the message's id; undefined: too many are waiting */
	say(text = "", name = "") {
		const id = this.#outbox.add(text, name);
		this.#sendAll("waiting");
		return id;
	}

	/** Decides about an entry that is unsure or refused. @param {string} id @param {"again" | "remove"} action */
	decide(id, action) {
		const entry = this.#outbox.get(id);
		if (!entry) return;
		if (action === "again") this.#outbox.again(entry);
		else this.#outbox.remove(id);
		this.#sendAll("waiting");
	}

	/**
	 * Reads the newest messages before a position, at most so many, in the topic's order. The call has a socket of its own.
	 * @returns {Promise<{ messages: Said[], gone: boolean }>} gone: there were older ones, and the pod has them no more
	 */
	older(position = "", last = 100) {
		const socket = new WebSocket(this.#at({ before: position, last: String(last) }), "chat.v1");
		const read = /** @type {{ messages: Said[], gone: boolean }} */ ({ messages: [], gone: false });
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => socket.close(), Connection.PATIENCE_MS);
			socket.onclose = () => (clearTimeout(timer), reject(new Error("the pod did not answer")));
			socket.onmessage = ({ data }) => {
				const event = /** @type {ChatEvent} */ (JSON.parse(data));
				if (event.type === "gap") read.gone = true;
				if (event.type === "message") read.messages.push(event);
				if (event.type === "live") {
					resolve(read);
					socket.close();
				}
			};
		});
	}

	#address() {
		return this.#at(this.position ? { after: this.position } : { last: String(this.#history) });
	}

	#at(/** @type {Record<string, string>} */ query) {
		const address = new URL(this.#url);
		address.search = String(new URLSearchParams(query));
		return address;
	}

	#hear(/** @type {ChatEvent} */ event) {
		switch (event.type) {
			case "welcome": this.#welcomed(event); break;
			case "message": this.#received(event); break;
			case "live": this.#caughtUp(event.position); break;
			case "ack": this.#acked(event); break;
			case "reject": this.#refused(event); break;
			case "gap": this.#lost("gap", event.missing); break;
			case "reset": this.#startAnew("reset"); break;
			case "status": [this.kafka, this.reason] = [event.kafka, event.reason ?? ""]; break;
			case "pods": this.pods = event.pods;
		}
		this.#changed();
	}

	#welcomed(/** @type {Welcome} */ welcome) {
		this.#movedTo = this.#pod && this.#pod !== welcome.pod ? welcome.pod : undefined;
		this.#pod = welcome.pod;
		this.welcome = welcome;
		if (this.kafka !== welcome.kafka) [this.kafka, this.reason] = [welcome.kafka, ""];
		if (welcome.resumed) return;
		if (!this.position) this.#outbox.doubt();
		else if (welcome.reason === "gap") this.#lost("gap");
		else this.#startAnew(welcome.reason === "reset" ? "reset" : "fresh");
	}

	#received(/** @type {Said} */ said) {
		this.position = said.position;
		this.lastOffset = said.offset;
		this.#settle(said.offset);
		const mine = this.#outbox.get(said.id) !== undefined;
		this.#outbox.remove(said.id); // one's own message event is an ack
		this.#show(said, mine);
	}

	#caughtUp(position = "") {
		if (position) this.position = position;
		if (this.#movedTo) this.#listener.moved?.(this.#movedTo);
		this.#movedTo = undefined;
		// What was sent and is not in the replay did not arrive, or not yet: again, with the same id.
		this.#sendAll("sent", "waiting");
	}

	#acked(/** @type {Ack} */ ack) {
		const entry = this.#outbox.get(ack.id);
		if (entry) Object.assign(entry, { state: "stored", offset: ack.offset });
		this.#listener.acked?.(ack);
		this.#settle(this.lastOffset + 1);
	}

	#refused(/** @type {{ id?: string, reason: string }} */ { id, reason }) {
		const entry = this.#outbox.get(id);
		if (entry) Object.assign(entry, { state: "refused", reason });
		this.#listener.refused?.(reason, entry?.id);
	}

	#lost(/** @type {"gap" | "reset" | "fresh"} */ kind, missing = 0) {
		this.#movedTo = undefined;
		this.#listener.lost?.(kind, missing);
		this.#outbox.doubt();
	}

	/** What follows is another log. What was stored belongs to the old one, before the line that says so. */
	#startAnew(/** @type {"reset" | "fresh"} */ kind) {
		this.#settle(Infinity);
		this.position = "";
		this.lastOffset = -1;
		this.#lost(kind);
	}

	/** Shows one's own messages that are stored before this offset: their events were in a gap, and will not come. */
	#settle(before = 0) {
		for (const { id, name, text, offset = 0 } of this.#outbox.all("stored")) {
			if (offset >= before) continue;
			this.#outbox.remove(id);
			const time = new Date().toISOString();
			this.#show({ type: "message", id, name, text, offset, position: "", pod: this.welcome?.pod, time }, true);
		}
	}

	#show(/** @type {Said} */ said, /** @type {boolean} */ mine) {
		if (this.#isNew(said)) this.#listener.message?.(said, mine);
	}

	#isNew(/** @type {Said} */ { id, position }) {
		const key = id || position;
		if (this.#known.has(key)) return false;
		this.#known.add(key);
		if (this.#known.size > Chat.KNOWN + 1_000) this.#known = new Set([...this.#known].slice(-Chat.KNOWN));
		return true;
	}

	#sendAll(/** @type {State[]} */ ...states) {
		for (const entry of this.#connection.ready ? this.#outbox.all(...states) : []) {
			const { id, name, text, again } = entry;
			// Told as sent before it is: a page that dies in between must not take it for one that never left.
			Object.assign(entry, { state: "sent", again: true, sentAt: performance.now() });
			this.#listener.sent?.(entry);
			this.#connection.send({ type: "message", id, name, text, again });
		}
		this.#changed();
	}

	#watch() {
		clearInterval(this.#checks);
		let looked = Date.now(); // of the wall clock: the other clock may stand still while the machine sleeps
		this.#checks = setInterval(() => {
			const slept = Date.now() - looked > Chat.SLEPT_MS;
			looked = Date.now();
			const overdue = this.kafka === "up" && this.#outbox.all("sent").some(({ sentAt = 0 }) => performance.now() - sentAt > Chat.OVERDUE_MS);
			// A pod that does not say where it runs is an old one, and sends no status when nothing happens.
			const silent = this.welcome?.where !== undefined && performance.now() - this.#connection.heardAt > Connection.SILENCE_MS;
			if (this.phase === "live" && (slept || overdue || silent)) this.#connection.open();
		}, Chat.CHECK_MS);
	}

	#changed() {
		this.#listener.changed?.();
	}
}
