// @ts-check
/** @import { ChatEvent } from "./client.js" */

const now = () => performance.now();

/**
 * What the address said by HTTP when no websocket came about. status 0: nothing.
 * @typedef {{ status: number, text: string }} Answer
 */

/** These answers come before a websocket would: a proxy without a pod, or a pod that takes nobody, or not from here. */
const CLOSED_DOORS = [401, 403, 429, 502, 503, 504];

/**
 * The socket, and when to open the next one. After "connecting" for the first time it is "closed" until a pod says
 * welcome: for a person, an attempt is not yet a connection.
 *
 * @typedef {"connecting" | "closed" | "replaying" | "live"} Phase
 */
export class Connection {
	/** Full jitter: attempt n waits between 0 and BASE_MS * 2^n, at most CAP_MS. */
	static BASE_MS = 250;
	static CAP_MS = 10_000;
	/** A connection that lived this long was a good one: the next wait is short again. */
	static GOOD_MS = 5_000;
	/** For the handshake up to the welcome, and then for each frame until "live". */
	static PATIENCE_MS = 10_000;
	/** A pod sends a status at least every 25 s. While the pod waits for Kafka, it sends nothing else, and is not to blame. */
	static SILENCE_MS = 60_000;
	/**
	 * After so many failures each attempt asks by HTTP first: to say what is wrong, and because a browser (Firefox) delays
	 * websockets to an address where many have failed.
	 */
	static ASK_AFTER = 2;

	/** @type {Phase} */
	phase = "connecting";
	/** @type {number | undefined} When the next attempt is due, by performance.now(). Only between two attempts. */
	retryAt;
	/** @type {Answer | undefined} What the last failed attempt got by HTTP. */
	trouble;
	/** When the last frame came, or the socket was opened. */
	heardAt = 0;

	#address;
	#onEvent;
	#onPhase;
	/** @type {WebSocket | undefined} An older socket's events are not heard. */
	#socket;
	/** @type {AbortController | undefined} Of the question by HTTP. */
	#question;
	/** @type {Answer | undefined} Of this attempt. */
	#answer;
	/** @type {ReturnType<typeof setTimeout> | undefined} The one next step: give the attempt up, or open. */
	#timer;
	#failures = 0;
	#openedAt = 0;
	/** How long the pod may take for the next step. */
	#patience = 0;
	/** The pod is about to stop, and asked us to come back at retryAt. */
	#asked = false;

	/** @param {() => URL} address of the next attempt @param {(event: ChatEvent) => void} onEvent @param {() => void} onPhase */
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
		this.retryAt = this.#answer = undefined;
		this.#openedAt = this.heardAt = now();
		this.#enter(this.phase === "connecting" ? "connecting" : "closed");
		this.#giveUpIn(Connection.PATIENCE_MS);
		if (this.#failures >= Connection.ASK_AFTER) this.#ask();
		else this.#dial();
	}

	/** The network is back, or somebody looks: do not sit out a back-off. A pod's wish is still honoured. */
	hurry() {
		if (!this.#socket && !this.#question && !this.#asked) this.open();
	}

	/** Lets the socket go until open or hurry is called. */
	rest() {
		this.#letGo();
		this.retryAt = undefined;
		this.#enter("closed");
	}

	/** @param {object} event Only while ready. */
	send(event) {
		this.#socket?.send(JSON.stringify(event));
	}

	async #ask() {
		const question = (this.#question = new AbortController());
		const url = this.#address();
		url.protocol = url.protocol === "wss:" ? "https:" : "http:";
		url.search = "";
		let answer = { status: 0, text: "" };
		try {
			const response = await fetch(url, { signal: question.signal, cache: "no-store" });
			answer = { status: response.status, text: await response.text() };
		} catch {} // no answer
		if (question !== this.#question) return; // given up meanwhile
		this.#question = undefined;
		this.#answer = answer;
		if (answer.status === 0 || CLOSED_DOORS.includes(answer.status)) this.#closed();
		else this.#dial();
	}

	#dial() {
		const socket = new WebSocket(this.#address(), "chat.v1");
		this.#socket = socket;
		socket.onmessage = (frame) => socket === this.#socket && this.#receive(frame.data);
		socket.onclose = () => socket === this.#socket && this.#closed();
	}

	#receive(/** @type {string} */ data) {
		const event = /** @type {ChatEvent} */ (JSON.parse(data));
		this.heardAt = now();
		if ("kafka" in event) this.#patience = event.kafka === "down" ? Connection.SILENCE_MS : Connection.PATIENCE_MS;
		if (event.type === "welcome") {
			this.trouble = this.#answer = undefined; // a websocket came about
			this.#enter("replaying");
		} else if (event.type === "live" && this.phase === "replaying") {
			if (!this.#asked) clearTimeout(this.#timer);
			this.#enter("live");
		} else if (event.type === "reconnect") {
			this.#asked = true;
			this.#openIn(Math.random() * event.within_ms); // all of the pod's clients hear this, so each picks a moment of its own
		}
		if (this.phase === "replaying" && !this.#asked) this.#giveUpIn(this.#patience);
		this.#onEvent(event);
	}

	#closed() {
		this.#judge();
		if (this.#asked) {
			this.#socket = undefined; // the time to come back is set
		} else {
			this.#letGo();
			this.trouble = this.#answer;
			this.#openIn(Math.random() * Math.min(Connection.CAP_MS, Connection.BASE_MS * 2 ** this.#failures++));
		}
		this.#enter("closed");
	}

	#giveUpIn(wait = 0) {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			if (this.#question) this.#answer = { status: 0, text: "" };
			this.#closed();
		}, wait);
	}

	#openIn(wait = 0) {
		clearTimeout(this.#timer);
		this.retryAt = now() + wait;
		this.#timer = setTimeout(() => this.open(), wait);
	}

	#letGo() {
		this.#judge();
		clearTimeout(this.#timer);
		this.#question?.abort();
		this.#socket?.close();
		this.#socket = this.#question = undefined;
		this.#asked = false;
	}

	/** Called before the phase changes: after a good connection the next wait is short. */
	#judge() {
		if (this.phase === "live" && now() - this.#openedAt > Connection.GOOD_MS) this.#failures = 0;
	}

	#enter(/** @type {Phase} */ phase) {
		this.phase = phase;
		this.#onPhase();
	}
}
