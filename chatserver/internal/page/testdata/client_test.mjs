// Plays client.txt with client.js: node client_test.mjs. The clock, the dice and the pod are this file's, so it takes milliseconds.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const realSetImmediate = setImmediate;
/** Lets all promises go on that can. */
const settle = () => new Promise((done) => realSetImmediate(done));

class Clock {
	now = 1e6;
	#timers = new Map();
	#next = 1;

	start(run, ms, every) {
		this.#timers.set(this.#next, { at: this.now + ms, run, every });
		return this.#next++;
	}

	stop(timer) {
		this.#timers.delete(timer);
	}

	async pass(ms) {
		const end = this.now + ms;
		for (;;) {
			const [first] = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
			if (!first) break;
			const [id, timer] = first;
			this.now = timer.at;
			if (timer.every) timer.at += timer.every;
			else this.#timers.delete(id);
			timer.run();
			await settle();
		}
		this.now = end;
	}
}

let clock, attempts, questions;
globalThis.setTimeout = (run, ms) => clock.start(run, ms);
globalThis.setInterval = (run, ms) => clock.start(run, ms, ms);
globalThis.clearTimeout = globalThis.clearInterval = (timer) => clock.stop(timer);
Object.defineProperty(performance, "now", { value: () => clock.now });
Date.now = () => clock.now;
Math.random = () => 0.5;
globalThis.WebSocket = class {
	sent = [];
	closed = false;

	constructor(url, protocol) {
		assert.equal(protocol, "chat.v1");
		this.query = decodeURIComponent(new URL(url).search.slice(1));
		attempts.push(this);
	}

	send(data) {
		assert(!this.closed);
		this.sent.push(JSON.parse(data));
	}

	close() {
		this.closed = true;
	}
};
globalThis.fetch = (url, { signal }) => new Promise((resolve, reject) => {
	assert.equal(String(url), "http://pod/ws");
	signal.addEventListener("abort", reject);
	questions.push({ answer: (status) => (status ? resolve({ status, text: async () => "why" }) : reject(new TypeError("no answer"))) });
});

const { Chat } = await import(new URL("../client.js", import.meta.url).href);

async function play(lines) {
	[clock, attempts, questions] = [new Clock(), [], []];
	const ids = [], texts = [];
	let socket;
	const chat = new Chat("ws://pod/ws", {});
	const id = (word) => word.replace(/\$(\d+)/g, (_, n) => ids[n - 1]);
	const say = (event) => socket.onmessage({ data: JSON.stringify(event) });
	const attempt = (query) => {
		assert.equal(attempts[0]?.query, query, "the next attempt");
		socket = attempts.shift();
	};
	const sent = (text, again) => {
		const message = socket.sent.shift();
		assert.deepEqual(message, { type: "message", id: ids[texts.indexOf(text)], name: "", text, ...(again ? { again } : {}) });
	};
	const verbs = {
		comes: attempt,
		refused: (query) => (attempt(query), socket.onclose()),
		hangs: attempt,
		asks: (status) => (assert(questions.length, "no question"), status === "never" ? questions.shift() : questions.shift().answer(Number(status))),
		welcome: (json) => say({ type: "welcome", pod: "pod-a", topic: "chat", resumed: socket.query.startsWith("after"), reason: "fresh", kafka: "up", ...JSON.parse(json || "{}") }),
		live: () => say({ type: "live", position: "" }),
		pod: (json) => say(JSON.parse(id(json))),
		message: (offset, who) => say({ type: "message", offset: Number(offset), position: `p${offset}`, id: id(who) + (who[0] === "$" ? "" : offset), text: "", time: "" }),
		ack: (who, offset) => say({ type: "ack", id: id(who), offset: Number(offset), ms: 1 }),
		cut: () => socket.onclose(),
		closes: () => assert(socket.closed, "the socket is open"),
		says: (text) => (texts.push(text), ids.push(chat.say(text)), assert(ids.at(-1), "the outbox is full")),
		fills: (count) => {
			for (let n = 0; n < count; n++) assert(chat.say("filler"), `message ${n} is one too many`);
			assert.equal(chat.say("filler"), undefined);
		},
		sends: (text) => sent(text, false),
		resends: (text) => sent(text, true),
		quiet: () => assert.deepEqual([attempts.length, questions.length, socket?.sent ?? []], [0, 0, []], "attempts, questions, messages"),
		wait: (ms) => clock.pass(Number(ms)),
		hop: () => chat.open(),
		decide: (action, who) => chat.decide(id(who), action),
		outbox: (...want) => assert.deepEqual(chat.outbox.map((entry) => `${entry.state}:${ids.indexOf(entry.id) + 1}`), want),
		phase: (want) => assert.equal({ connecting: "away", closed: "away" }[chat.phase] ?? chat.phase, want),
	};
	chat.open();
	for (const { number, text } of lines) {
		const [verb, ...words] = text.split(" ");
		const json = verb === "welcome" || verb === "pod" || verb === "says";
		try {
			await verbs[verb](...(json ? [words.join(" ")] : words));
			await settle();
		} catch (problem) {
			problem.message = `line ${number}: ${text}: ${problem.message}`;
			throw problem;
		}
	}
	chat.rest();
}

const cases = [];
readFileSync(new URL("client.txt", import.meta.url), "utf8").split("\n").forEach((text, index) => {
	if (text.startsWith("== ")) cases.push({ name: text.slice(3), lines: [] });
	else if (text && cases.length) cases.at(-1).lines.push({ number: index + 1, text });
});
let failed = 0;
for (const { name, lines } of cases) {
	try {
		await play(lines);
	} catch (problem) {
		failed++;
		console.error(`${name}: ${problem.message}`);
	}
}
console.log(`${cases.length} cases, ${failed} failed`);
process.exitCode = failed || cases.length < 20 ? 1 : 0;
