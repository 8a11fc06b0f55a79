// @ts-check
/** How the page writes into its document, where text from others is text, never markup; and what the browser keeps for the page. */
import { words } from "./words.js";

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...(Node | string)} children
 */
export function element(tag, properties = {}, ...children) {
	const made = Object.assign(document.createElement(tag), properties);
	made.append(...children);
	return made;
}

/** An element of index.html. A missing one means that a roll-out gave this script the page of another version. */
export function byID(id = "") {
	const found = document.getElementById(id);
	if (!found) throw new Error(`index.html has no #${id}: it is of another version than the script`);
	return found;
}

/** @type {WeakMap<Node, string>} */
const written = new WeakMap();

/** Writes only what changed: an unchanged status must not be read out again, and a browser that translates the page has other text there. */
export function setText(/** @type {Node} */ node, /** @type {string} */ text) {
	if (written.get(node) === text) return;
	written.set(node, text);
	node.textContent = text;
}

/** Puts the words into index.html. */
export function fillWords() {
	const all = /** @type {Record<string, any>} */ (words);
	for (const node of document.querySelectorAll("[data-text], [data-label], [data-placeholder]")) {
		const { text, label, placeholder } = /** @type {HTMLElement} */ (node).dataset;
		if (text) node.textContent = all[text];
		if (label) node.setAttribute("aria-label", all[label]);
		if (placeholder) node.setAttribute("placeholder", all[placeholder]);
	}
}

/**
 * A line across the page for what concerns everybody.
 * @param {string} name of which there is one at a time @param {string | undefined} text none takes it away @param {HTMLElement[]} actions
 */
export function showBanner(name, text, ...actions) {
	const box = byID("banners");
	const old = /** @type {HTMLElement | null} */ (box.querySelector(`.${name}`));
	if (old?.dataset.says === text) return;
	old?.remove();
	if (!text) return;
	const banner = element("p", { className: name }, element("span", {}, text), ...actions);
	banner.dataset.says = text;
	box.append(banner);
}

/**
 * What the browser keeps. It may be full or forbidden: then the page forgets, and works. What it has kept may be of
 * another version: what is not like the example is forgotten.
 * @param {"localStorage" | "sessionStorage"} area
 */
const storage = (area) => ({
	/** @template T @param {string} key @param {T} example @returns {T} */
	get(key, example) {
		try {
			const kept = JSON.parse(window[area].getItem(`kafkachat.${key}`) ?? "null");
			return typeof kept === typeof example && kept !== null && Array.isArray(kept) === Array.isArray(example) ? kept : example;
		} catch {
			return example;
		}
	},
	/** @param {string} key @param {unknown} value */
	set(key, value) {
		try {
			window[area].setItem(`kafkachat.${key}`, JSON.stringify(value));
		} catch {} // only a reload would notice
	},
});
export const session = storage("sessionStorage");
export const local = storage("localStorage");

/** Letters that turn the direction of what follows, or are not seen: a name or a link with them pretends to be another. */
const UNSEEN = "\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u115f\\u1160\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb";

/** A name as it may be shown: one line, nothing unseen, and not more than four marks on a letter. */
export function cleanName(name = "") {
	return name.replace(new RegExp(`[${UNSEEN}]`, "gu"), "").replace(/(\p{M}{4})\p{M}+/gu, "$1").replace(/\s+/gu, " ").trim();
}

/** A colour for each name, the same on every screen. The style sheet chooses the lightness. */
export function hue(name = "") {
	let hash = 0;
	for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
	return Math.round(hash * 137.508) % 360; // the golden angle keeps neighbours apart
}

/** Colours that a projector tells apart. */
const POD_HUES = [245, 65, 155, 335, 110, 290, 20, 200];
/** @type {Map<string, number>} */
const podHues = new Map();

/** A pod's colour: by its name, so that all screens agree, but not that of another pod as long as one is free. */
export function podHue(pod = "") {
	let found = podHues.get(pod);
	if (found === undefined) {
		const first = hue(pod) % POD_HUES.length;
		const order = [...POD_HUES.slice(first), ...POD_HUES.slice(0, first)];
		const taken = [...podHues.values()].slice(-POD_HUES.length + 1);
		found = order.find((candidate) => !taken.includes(candidate)) ?? order[0];
		podHues.set(pod, found);
	}
	return found;
}

/** The first letter, or the first whole emoji. */
function initial(name = "") {
	const [first] = new Intl.Segmenter().segment(name);
	return first?.segment.toUpperCase() ?? "";
}

/** What is more than plain text: code between backticks, and links. Only http and https, so no script hides in one. */
const RICH = new RegExp(`(\`\`\`[^]+?\`\`\`|\`[^\`\\n]+\`|https?://[^\\s<>"${UNSEEN}]*[^\\s<>"'.,;:!?)\\]}…${UNSEEN}])`, "iu");
/** A message of nothing but links must not flood the document: after so many parts (an even number) the rest stays plain. */
const MOST_PARTS = 40;

/** A message's parts: plain, rich, plain, rich, ... */
export function parts(text = "") {
	const all = text.split(RICH);
	return all.length < MOST_PARTS ? all : [...all.slice(0, MOST_PARTS), all.slice(MOST_PARTS).join("")];
}

/** A message's text as nodes. */
export function textNodes(text = "") {
	return parts(text).map((part, index) => {
		if (index % 2 === 0) return part;
		if (part.startsWith("```")) return element("code", { className: "block" }, part.slice(3, -3).trim());
		if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
		return link(part);
	});
}

/** A link says where it leads if that is not what one reads: https://bank.example@evil.example, or letters of other alphabets. */
function link(href = "") {
	const made = element("a", { href, target: "_blank", rel: "noopener noreferrer" }, href);
	const read = /^https?:\/\/([^/?#]*)/iu.exec(href)?.[1].toLowerCase();
	if (made.host && read !== made.host && read !== `${made.host}:80` && read !== `${made.host}:443`) made.append(words.leadsTo(made.host));
	return made;
}

/**
 * The row of a message, in its person's colour.
 * @param {string} classes @param {string} name @param {(string | Node)[]} text @param {...Node} more
 */
export function bubble(classes, name, text, ...more) {
	const row = element("li", { className: `message ${classes}` },
		element("span", { className: "who", dir: "auto" }, name), element("p", { className: "text", dir: "auto" }, ...text), ...more);
	row.dataset.initial = initial(name);
	row.style.setProperty("--hue", String(hue(name)));
	return row;
}
