// @ts-check
/** Where a person writes: name, text, what was sent before, and what waits to be stored. */
/** @import { Entry } from "./client.js" */
import { bubble, byID, cleanName, element, local, session, setText } from "./dom.js";
import { words } from "./words.js";

/** In UTF-8. A text's bound comes with the welcome. */
const MAX_NAME_BYTES = 64;
const bytes = (text = "") => new TextEncoder().encode(text).length;

export class Composer {
	static MOST_REMEMBERED = 50;

	maxBytes = 8192;

	#name = /** @type {HTMLInputElement} */ (byID("name"));
	#text = /** @type {HTMLTextAreaElement} */ (byID("text"));
	#hint = byID("hint");
	#submit;
	/** @type {string[]} Oldest first. */
	#sent = session.get("sent", /** @type {string[]} */ ([])).filter((text) => typeof text === "string");
	/** Which of #sent is shown; #sent.length is the draft. */
	#shown = this.#sent.length;
	#draft = "";
	/** The name that the pod has given; then there is no other. */
	#fixed = "";

	/** @param {(name: string, text: string) => string | undefined} submit returns why it cannot take the message */
	constructor(submit) {
		this.#submit = submit;
		this.#name.value = local.get("name", "") || guestName();
		this.#text.value = session.get("draft", "");
		this.#name.addEventListener("input", () => this.#named());
		// Whoever goes to the name of a guest wants another one.
		for (const arrival of ["focus", "click"]) this.#name.addEventListener(arrival, () => this.#name.value === guestName() && this.#name.select());
		this.#name.addEventListener("blur", () => (this.#name.value = cleanName(this.#name.value) || guestName()));
		this.#text.addEventListener("input", () => {
			this.#edited();
			this.#typed();
		});
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

	/** Fixes the name that the pod knows of the person; with "" the person chooses a name. */
	fix(name = "") {
		this.#fixed = name;
		/** @type {HTMLElement} */ (this.#name.parentElement).hidden = name !== "";
		this.#text.placeholder = name ? words.writeAs(name) : words.textPlaceholder;
	}

	#named() {
		let name = this.#name.value;
		while (bytes(name) > MAX_NAME_BYTES) name = [...name].slice(0, -1).join("");
		if (name !== this.#name.value) this.#name.value = name;
		local.set("name", name);
	}

	/** What a person changes is a draft, also if it was recalled. The draft before is kept among what was sent. */
	#edited() {
		if (this.#shown < this.#sent.length && this.#draft.trim()) this.#remember(this.#draft);
		this.#shown = this.#sent.length;
		this.#draft = "";
	}

	#remember(text = "") {
		if (this.#sent.at(-1) !== text) this.#sent.push(text);
		this.#sent = this.#sent.slice(-Composer.MOST_REMEMBERED);
		session.set("sent", this.#sent);
	}

	#typed() {
		const over = bytes(this.#message()) - this.maxBytes;
		this.#say(over > 0 ? words.tooLong(over) : undefined);
		session.set("draft", this.#text.value);
	}

	#say(/** @type {string | undefined} */ problem) {
		setText(this.#hint, problem ?? words.hint);
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
		const problem = this.#submit(this.#fixed || cleanName(this.#name.value.toWellFormed()) || guestName(), text);
		if (problem) return this.#say(problem);
		const draft = this.#shown < this.#sent.length ? this.#draft : "";
		this.#remember(text);
		this.#shown = this.#sent.length;
		this.#draft = "";
		this.#put(draft);
		this.focus();
	}

	#keyed(/** @type {KeyboardEvent} */ key) {
		// While a Japanese or Chinese word is being composed, Enter and the arrows belong to the input method. Safari sends the
		// Enter that ends it after the end, with the code 229.
		if (key.isComposing || key.keyCode === 229) return;
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

/** The name of a person who gives none: the same in all tabs of a browser, and another one in the next browser. */
function guestName() {
	const number = local.get("guest", 0) || 100 + Math.floor(Math.random() * 900);
	local.set("guest", number);
	return words.guestNumber(number);
}

/**
 * The outbox on the screen, below the conversation.
 * @param {Entry[]} entries @param {(entry: Entry) => string} explain
 */
export function showPending(entries, explain) {
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
	const row = bubble("mine pending", entry.name || words.guest, [entry.text],
		element("p", { className: "state" }),
		element("div", { className: "actions" },
			element("button", { type: "button", className: "link", value: "again" }, words.sendAgain),
			element("button", { type: "button", className: "link", value: "remove" }, words.remove)));
	row.dataset.id = entry.id;
	return row;
}
