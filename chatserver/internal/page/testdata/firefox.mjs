// A Firefox that does what the lines of its input say: node firefox.mjs FIREFOX, with PUPPETEER_CORE as the folder whose
// node_modules has puppeteer-core. Each line is JavaScript, in which page is the page and wait(CONDITION) waits until the page
// meets a condition; each is answered with one line, "done" or what went wrong.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";

const core = createRequire(`${process.env.PUPPETEER_CORE}/`).resolve("puppeteer-core");
const { default: puppeteer } = await import(pathToFileURL(core).href);
const browser = await puppeteer.launch({ browser: "firefox", executablePath: process.argv[2], headless: true });
const page = await browser.newPage();
const wait = async (condition) => {
	for (const start = Date.now(); !(await page.evaluate(`Boolean(${condition})`)); await new Promise((done) => setTimeout(done, 50))) {
		if (Date.now() - start > 60_000) throw new Error(`the page shows ${await page.evaluate("document.body.innerText")}`);
	}
};
try {
	for await (const line of createInterface({ input: process.stdin })) {
		const answer = await eval(`(async () => { ${line} })()`).then(() => "done", String);
		console.log(answer.replaceAll("\n", " "));
	}
} finally {
	await browser.close();
}
