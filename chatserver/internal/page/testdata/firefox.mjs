// A Firefox that does what the lines of its input say: node firefox.mjs FIREFOX, with PUPPETEER_CORE as the folder whose
// node_modules has puppeteer-core. Each line is {"do": "open" | "type" | "press" | "value", "with": string}; each is answered
// with one line, {"value": any} or {"error": string}.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";

const core = createRequire(`${process.env.PUPPETEER_CORE}/`).resolve("puppeteer-core");
const { default: puppeteer } = await import(pathToFileURL(core).href);
const browser = await puppeteer.launch({ browser: "firefox", executablePath: process.argv[2], headless: true });
const page = await browser.newPage();
const verbs = {
	open: (url) => page.goto(url).then(() => true),
	type: (text) => page.keyboard.type(text),
	press: (key) => page.keyboard.press(key),
	value: (expression) => page.evaluate(expression),
};
try {
	for await (const line of createInterface({ input: process.stdin })) {
		const { do: verb, with: what } = JSON.parse(line);
		const answer = await verbs[verb](what).then((value) => ({ value: value ?? null }), (problem) => ({ error: String(problem) }));
		console.log(JSON.stringify(answer));
	}
} finally {
	await browser.close();
}
