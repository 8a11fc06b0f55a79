// @ts-check
const log = /** @type {HTMLElement} */ (document.getElementById("log"));
const state = /** @type {HTMLElement} */ (document.getElementById("connection"));
const text = /** @type {HTMLInputElement} */ (document.getElementById("text"));
/** @type {WebSocket | undefined} */
let socket;
let position = "";
let attempts = 0;

function connect() {
  const url = new URL("ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = position ? "after=" + encodeURIComponent(position) : "last=100";
  socket = new WebSocket(url, "chat.v1");
  socket.onmessage = ({ data }) => handle(JSON.parse(data));
  socket.onclose = () => {
    state.textContent = "Connection closed";
    setTimeout(connect, Math.random() * Math.min(10_000, 250 * 2 ** attempts++));
  };
}

/** @param {any} event */
function handle(event) {
  if (event.position) position = event.position;
  if (event.type === "welcome") {
    attempts = 0;
    state.textContent = "";
    document.title = "Connected to Pod " + event.pod;
    /** @type {HTMLElement} */ (document.getElementById("heading")).textContent = "Chatting on " + event.pod;
  }
  if (event.type === "message") {
    const row = document.createElement("li");
    row.textContent = event.text;
    log.append(row);
    row.scrollIntoView();
  }
}

/** @type {HTMLElement} */ (document.getElementById("composer")).onsubmit = (submit) => {
  submit.preventDefault();
  if (!text.value || socket?.readyState !== WebSocket.OPEN) return;
  const id = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  socket.send(JSON.stringify({ type: "message", id, name: "", text: text.value }));
  text.value = "";
};

connect();
