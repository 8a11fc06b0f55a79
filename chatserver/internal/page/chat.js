// @ts-check
/**
 * The page of the chat. From top to bottom: the words, the protocol, then one class for each idea, then the wiring.
 *
 *   Composer ──▶ Outbox ──▶ Connection ──▶ pod ──▶ Kafka
 *   View ◀── Conversation ◀── Connection ◀── pod ◀──┘
 *
 * The rules of this file:
 * - Every word that a person reads stands in `texts` (index.html has only what must be there before the script runs).
 * - What others wrote reaches the document as text, never as markup.
 * - The topic decides the order. A message of one's own waits below the conversation until the topic shows it.
 * - Only a message event moves a message from the outbox to the conversation, so nothing is ever on the screen twice.
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
  podHere: "you are here",
  people: (count) => (count === 1 ? "1 person" : `${count} people`),
  morePods: (count) => `and ${count} more`,
  standalone: "standalone: only people on this pod see you",

  kafkaDown: "Kafka is not reachable. What you write waits here and is sent as soon as Kafka is back.",
  partitions: (topic, count) =>
    `The topic “${topic}” has ${count} partitions. The chat lives in partition 0; records in the others are not shown.`,
  newVersion: "There is a new version of this page. This one keeps working.",
  reload: "Reload for the new version",

  conversation: "Conversation",
  messages: "Messages",
  empty: "No messages yet. Say hello.",
  guest: "Guest",
  fromKafka: "Kafka",
  today: "Today",
  yesterday: "Yesterday",
  newHere: "New messages",
  latest: "Latest messages",
  newMessages: (count) => (count === 1 ? "1 new message" : `${count} new messages`),
  details: (time) => `${time}, details`,
  origin: (pod, place) => `through ${pod}, stored at ${place}`,
  originKafka: (place) => `written to Kafka without a pod, stored at ${place}`,
  place: (topic, offset) => `${topic}, partition 0 @ ${offset}`,

  moved: (pod) => `You are on ${pod} now. Nothing was missed.`,
  gap: (missing) =>
    missing ? `${missing} messages are missing here: they are older than this pod remembers.`
      : "Messages are missing here: they are older than this pod remembers.",
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
  tooMany: "Too many messages are waiting. Please wait until they are sent.",

  howItWorks: "How it works",
  panelTitle: "The path of the last message",
  panelIntro: "Pods know nothing of each other. Each one writes what its people say to one Kafka topic, and reads everything back from it.",
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
 * @typedef {{ type: "welcome", pod: string, topic: string, resumed: boolean, reason?: "fresh" | "gap" | "reset", detail?: string,
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

/** How many messages a page asks for when it comes for the first time. */
const HISTORY = 100;
/** A name's bound in the protocol, in bytes of UTF-8. A text's bound comes with the welcome. */
const MAX_NAME_BYTES = 64;

/** Small things that every part needs. */
const now = () => performance.now();
const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text).length;

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

/**
 * An element of index.html. A missing one means that a roll-out gave this script the page of another version.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @returns {Kind}
 */
function byID(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}: it is of another version than chat.js`);
  return /** @type {Kind} */ (found);
}

/** Writes only what changed: an unchanged status must not be read out again. */
function setText(/** @type {HTMLElement} */ node, /** @type {string} */ text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * What the browser keeps for us. It may be full or forbidden: then the page forgets, and works.
 * @param {"localStorage" | "sessionStorage"} area
 */
function storage(area) {
  return {
    /** @returns {any} */
    get(/** @type {string} */ key) {
      try {
        return JSON.parse(window[area].getItem(`kafkachat.${key}`) ?? "null");
      } catch {
        return null;
      }
    },
    set(/** @type {string} */ key, /** @type {unknown} */ value) {
      try {
        window[area].setItem(`kafkachat.${key}`, JSON.stringify(value));
      } catch {
        // Nothing to do, and nothing to tell: only a reload would notice.
      }
    },
  };
}

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
 * @typedef {{ id: string, name: string, text: string, state: State, reason?: string, offset?: number }} Entry
 */
class Outbox {
  /** More would be a script, not a person; and the screen shows them all. */
  static MOST = 40;

  /** @type {Map<string, Entry>} In the order of writing. */
  #entries = new Map();
  #save;

  /**
   * @param {Entry[]} saved
   * @param {(entries: Entry[]) => void} save called after each change, before anything else happens
   */
  constructor(saved, save) {
    for (const entry of saved) this.#entries.set(entry.id, entry);
    this.#save = save;
  }

  get full() {
    return this.#entries.size >= Outbox.MOST;
  }

  /** @param {...State} states */
  all(...states) {
    const all = [...this.#entries.values()];
    return states.length ? all.filter((entry) => states.includes(entry.state)) : all;
  }

  get(/** @type {string | undefined} */ id) {
    return id === undefined ? undefined : this.#entries.get(id);
  }

  add(/** @type {string} */ name, /** @type {string} */ text) {
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
 * The socket, and when to open the next one.
 *
 * @typedef {"connecting" | "replaying" | "live" | "closed"} Phase
 */
class Connection {
  /** Full jitter: attempt n waits between 0 and BASE_MS * 2^n, at most CAP_MS. */
  static BASE_MS = 250;
  static CAP_MS = 10_000;
  /** A connection that lived this long was a good one: the next wait is short again. Longer than most waits, on purpose. */
  static GOOD_MS = 5_000;
  /** A handshake that takes longer has met a host that swallows packets. */
  static HANDSHAKE_MS = 10_000;

  /** @type {Phase} */
  phase = "closed";
  /** When the next attempt is due, by now(). Only in phase "closed". */
  retryAt = 0;

  #address;
  #onEvent;
  #onPhase;
  /** @type {WebSocket | undefined} An older socket's events are not heard. */
  #socket;
  /** @type {ReturnType<typeof setTimeout> | undefined} The one next step: give the handshake up, or open. */
  #timer;
  #attempts = 0;
  #openedAt = 0;
  /** @type {number | undefined} The pod is about to stop and asked us to come back at this time. */
  #comeBackAt;

  /**
   * @param {() => URL} address where to connect, asked before each attempt
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
    return this.phase === "live" && this.#comeBackAt === undefined;
  }

  /** Opens a new socket now, whatever there was before. */
  open() {
    this.#letGo();
    this.#comeBackAt = undefined;
    this.#openedAt = now();
    const socket = new WebSocket(this.#address(), "chat.v1");
    this.#socket = socket;
    socket.onmessage = (frame) => {
      if (socket === this.#socket) this.#receive(frame.data);
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#closed();
    };
    this.#timer = setTimeout(() => this.#closed(), Connection.HANDSHAKE_MS);
    this.#enter("connecting");
  }

  /** Something good happened (network back, tab looked at): do not sit out a back-off. A pod's wish is still honoured. */
  hurry() {
    if (this.phase === "closed" && this.#comeBackAt === undefined) this.open();
  }

  /** Lets the socket go until open or hurry is called: the page is being frozen or left. */
  rest() {
    this.#letGo();
    this.#comeBackAt = undefined;
    this.retryAt = now();
    this.#enter("closed");
  }

  /** @param {object} event Only while ready. */
  send(event) {
    this.#socket?.send(JSON.stringify(event));
  }

  #receive(/** @type {unknown} */ data) {
    /** @type {ChatEvent} */
    let event;
    try {
      event = JSON.parse(String(data));
    } catch {
      return; // not ours to understand
    }
    if (event.type === "welcome") {
      clearTimeout(this.#timer);
      this.#enter("replaying");
    } else if (event.type === "live") {
      this.#enter("live");
    } else if (event.type === "reconnect") {
      this.#leave(event.within_ms);
    }
    this.#onEvent(event);
  }

  /** All of a pod's clients hear this at once, so each picks a moment of its own. */
  #leave(/** @type {number} */ withinMS) {
    const wait = Math.random() * Math.max(0, Number(withinMS) || 0);
    this.#comeBackAt = now() + wait;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), wait);
  }

  #closed() {
    const asked = this.#comeBackAt;
    this.#letGo();
    if (now() - this.#openedAt > Connection.GOOD_MS) this.#attempts = 0;
    const backoff = Math.random() * Math.min(Connection.CAP_MS, Connection.BASE_MS * 2 ** this.#attempts);
    if (asked === undefined) this.#attempts++;
    this.retryAt = asked ?? now() + backoff;
    this.#timer = setTimeout(() => this.open(), this.retryAt - now());
    this.#enter("closed");
  }

  #letGo() {
    clearTimeout(this.#timer);
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
 * @typedef {Message | Line} Item
 */
class Conversation {
  /** Remembered for scrolling back. The oldest are forgotten in batches, so that an array of this size moves seldom. */
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

  /** @param {number} number in start..end-1 */
  at(number) {
    return this.#items[number - this.start];
  }

  has(/** @type {string} */ key) {
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
  note(/** @type {string} */ text) {
    const last = this.#items.at(-1);
    if (last?.kind !== "note" || last.text !== text) this.#items.push({ kind: "note", text });
  }

  /** The newest items, without what add derives. */
  newest(/** @type {number} */ count) {
    return this.#items.slice(-count).filter((item) => item.kind !== "day");
  }

  #forget() {
    if (this.#items.length < Conversation.MOST + Conversation.BATCH) return;
    for (const item of this.#items.splice(0, Conversation.BATCH)) {
      if (item.kind === "message") this.#keys.delete(item.key);
    }
    this.start += Conversation.BATCH;
  }
}

function sameDay(/** @type {number} */ a, /** @type {number} */ b) {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

/** Local time in the reader's manner. Formatters are slow to make, so each is made once. */
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const calendarDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

function dayName(/** @type {number} */ at) {
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  if (sameDay(at, Date.now())) return texts.today;
  return sameDay(at, yesterday.getTime()) ? texts.yesterday : calendarDay.format(at);
}

/** A colour for each name: the same one on every screen. The style sheet chooses lightness for contrast. */
function hue(/** @type {string} */ name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return (hash % 24) * 15;
}

/** The first letter, or the first whole emoji. */
function initial(/** @type {string} */ name) {
  const [first] = new Intl.Segmenter().segment(name);
  return first?.segment.toUpperCase() ?? "";
}

/**
 * A text's parts: code between three backticks, links, and the rest. A message of nothing but links must not flood the
 * document, so after MOST_PARTS the rest stays plain.
 */
const PART = /```\n?([^]+?)```|https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}…]/giu;
const MOST_PARTS = 20;

/** @returns {{ text: string, kind: "plain" | "code" | "link" }[]} */
function parts(/** @type {string} */ text) {
  /** @type {{ text: string, kind: "plain" | "code" | "link" }[]} */
  const found = [];
  let from = 0;
  for (const match of text.matchAll(PART)) {
    if (found.length >= MOST_PARTS) break;
    if (match.index > from) found.push({ text: text.slice(from, match.index), kind: "plain" });
    const isLink = match[1] === undefined && URL.canParse(match[0]);
    found.push({ text: match[1] ?? match[0], kind: isLink ? "link" : match[1] === undefined ? "plain" : "code" });
    from = match.index + match[0].length;
  }
  if (from < text.length) found.push({ text: text.slice(from), kind: "plain" });
  return found;
}

/** A message's text as nodes. Only http and https are links, so no script can hide in one. */
function textNodes(/** @type {string} */ text) {
  return parts(text).map((part) => {
    if (part.kind === "code") return element("code", {}, part.text);
    if (part.kind === "link") return element("a", { href: part.text, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text);
    return document.createTextNode(part.text);
  });
}

/**
 * The conversation on the screen: a window of rows over the conversation, moved as the person scrolls, so that the
 * document stays small however much is said. Who looks at the end stays at the end; who reads is never moved.
 */
class View {
  /** DOM nodes that rows may use. The page as a whole stays below 1,500. */
  static MOST_NODES = 1_000;
  /** A scroll position this close to the end is the end: browsers round. */
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
  #marker = element("p", { className: "marker", textContent: texts.newHere });
  /** @type {HTMLElement | undefined} The row that Tab leads to; arrows go on from it. */
  #tabStop;

  /**
   * @param {Conversation} conversation
   * @param {(message: Message) => string} describe where a message came from
   * @param {() => void} changed asks for a frame
   */
  constructor(conversation, describe, changed) {
    this.#conversation = conversation;
    this.#describe = describe;
    this.#log.addEventListener("scroll", () => {
      this.pinned = this.#end === conversation.end && this.#belowPX() <= View.END_PX;
      changed();
    }, { passive: true });
    // The keyboard of a phone, a composer that grows, a window that changes: the end stays in view.
    const resized = new ResizeObserver(() => this.#pin());
    for (const part of [this.#log, this.#rows, byID("pending")]) resized.observe(part);
    this.#rows.addEventListener("click", (click) => this.#toggleDetails(click));
    this.#rows.addEventListener("keydown", (key) => this.#walk(key));
  }

  toEnd() {
    this.pinned = true;
  }

  /** Brings the document up to date. Called once per frame. */
  render() {
    if (this.pinned) this.#showEnd();
    else this.#slide();
    this.#mark();
    this.#offerTabStop();
    this.#pin();
  }

  #belowPX() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
  }

  #pin() {
    if (this.pinned && this.#belowPX() > 0) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #showEnd() {
    const { start, end } = this.#conversation;
    let first = end;
    for (let nodes = 0; first > start; first--) {
      nodes += weight(this.#conversation.at(first - 1));
      if (nodes > View.MOST_NODES) break;
    }
    if (first >= this.#end || first < this.#first) this.#clear(first);
    while (this.#first < first) this.#dropFirst();
    while (this.#end < end) this.#addLast();
  }

  /** The person reads. Rows come and go outside of the view only, and what is in view stays where it is. */
  #slide() {
    const { start, end } = this.#conversation;
    while (this.#first < start && this.#first < this.#end) this.#dropFirst();
    const page = this.#log.clientHeight;
    const wantOlder = this.#log.scrollTop < page && this.#first > start;
    const wantNewer = this.#belowPX() < page && this.#end < end;
    if (!wantOlder && !wantNewer) return;

    const anchor = this.#firstInView();
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#log.setAttribute("aria-busy", String(wantOlder)); // old rows that come back are no news
    if (wantOlder) {
      for (let more = 40; more > 0 && this.#first > start; more--) this.#addFirst();
      while (this.#nodes > View.MOST_NODES) this.#dropLast();
    } else {
      for (let more = 40; more > 0 && this.#end < end; more--) this.#addLast();
      while (this.#nodes > View.MOST_NODES) this.#dropFirst();
    }
    const moved = (anchor?.getBoundingClientRect().top ?? 0) - before;
    if (moved) this.#log.scrollTop += moved;
    this.#log.setAttribute("aria-busy", "false");
  }

  #firstInView() {
    const top = this.#log.getBoundingClientRect().top;
    for (const row of this.#rows.children) {
      if (row.getBoundingClientRect().bottom > top) return row;
    }
    return null;
  }

  /** Puts the line "new messages" above the first of them. It belongs to the row, and goes and comes with it. */
  #mark() {
    const row = this.firstUnread === undefined ? undefined : this.#rows.children[this.firstUnread - this.#first];
    if (!row) this.#marker.remove();
    else if (this.#marker.parentElement !== row) row.prepend(this.#marker);
  }

  #clear(/** @type {number} */ first) {
    this.#rows.replaceChildren();
    this.#nodes = 0;
    this.#first = this.#end = first;
  }

  #addLast() {
    const item = this.#conversation.at(this.#end++);
    this.#rows.append(this.#row(item));
    this.#nodes += weight(item);
  }

  #addFirst() {
    const item = this.#conversation.at(--this.#first);
    this.#rows.prepend(this.#row(item));
    this.#nodes += weight(item);
  }

  #dropFirst() {
    this.#first++;
    this.#drop(this.#rows.firstElementChild);
  }

  #dropLast() {
    this.#end--;
    this.#drop(this.#rows.lastElementChild);
  }

  #drop(/** @type {Element | null} */ row) {
    if (!row) return;
    this.#nodes -= Number(/** @type {HTMLElement} */ (row).dataset.nodes);
    if (row.contains(document.activeElement)) this.#log.focus({ preventScroll: true });
    row.remove();
  }

  #row(/** @type {Item} */ item) {
    const row = item.kind === "message" ? this.#messageRow(item)
      : element("li", { className: item.kind }, element("p", {}, item.kind === "day" ? dayName(item.at) : item.text));
    row.dataset.nodes = String(weight(item));
    return row;
  }

  #messageRow(/** @type {Message} */ message) {
    const time = clock.format(message.at);
    const when = element("button", { type: "button", className: "when", title: fullTime.format(message.at), tabIndex: -1 }, time);
    when.setAttribute("aria-label", texts.details(time));
    when.setAttribute("aria-expanded", "false");

    const row = element("li", { className: "message" },
      element("span", { className: "who", dir: "auto" }, message.name),
      when,
      element("p", { className: "text", dir: "auto" }, ...(message.placeholder ? [message.text] : textNodes(message.text))),
    );
    row.classList.toggle("follows", message.follows);
    row.classList.toggle("mine", message.mine);
    row.classList.toggle("placeholder", message.placeholder);
    dress(row, message.name);
    if (message.mine) row.append(element("p", { className: "state stored" }, texts.stored));
    return row;
  }

  #toggleDetails(/** @type {Event} */ click) {
    const when = click.target instanceof Element ? click.target.closest(".when") : null;
    const row = when?.closest("li");
    if (!when || !row) return;
    const open = when.getAttribute("aria-expanded") !== "true";
    when.setAttribute("aria-expanded", String(open));
    if (!open) return when.nextElementSibling?.remove();
    const message = this.#conversation.at(this.#first + [...this.#rows.children].indexOf(row));
    if (message.kind === "message") when.after(element("p", { className: "origin" }, this.#describe(message)));
  }

  /** Hundreds of rows are one stop of the Tab key; arrows walk on. */
  #walk(/** @type {KeyboardEvent} */ key) {
    const row = key.target instanceof Element ? key.target.closest(".message") : null;
    if (!row || (key.key !== "ArrowUp" && key.key !== "ArrowDown")) return;
    key.preventDefault();
    let next = row;
    do {
      const step = key.key === "ArrowUp" ? next.previousElementSibling : next.nextElementSibling;
      if (!step) return;
      next = step;
    } while (!next.matches(".message"));
    this.#makeTabStop(/** @type {HTMLElement} */ (next));
    /** @type {HTMLElement} */ (next.querySelector(".when")).focus();
  }

  #offerTabStop() {
    if (this.#tabStop?.isConnected && this.#tabStop.contains(document.activeElement)) return;
    const last = this.#rows.querySelector(":scope > .message:last-of-type") ?? [...this.#rows.querySelectorAll(".message")].at(-1);
    if (last) this.#makeTabStop(/** @type {HTMLElement} */ (last));
  }

  #makeTabStop(/** @type {HTMLElement} */ row) {
    if (row === this.#tabStop) return;
    const old = this.#tabStop?.querySelector(".when");
    if (old instanceof HTMLElement) old.tabIndex = -1;
    this.#tabStop = row;
    /** @type {HTMLElement} */ (row.querySelector(".when")).tabIndex = 0;
  }
}

/** The DOM nodes of an item's row, details and marker included. */
function weight(/** @type {Item} */ item) {
  return item.kind === "message" ? 10 + 2 * (item.placeholder ? 1 : parts(item.text).length) + (item.mine ? 2 : 0) : 3;
}

/** Colour and initial of a person, as the style sheet wants them. */
function dress(/** @type {HTMLElement} */ row, /** @type {string} */ name) {
  row.dataset.initial = initial(name);
  row.style.setProperty("--hue", String(hue(name)));
}

/** The outbox on the screen, below the conversation. */
class PendingRows {
  #list = byID("pending");
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();

  /** @param {(id: string, action: "again" | "remove") => void} act */
  constructor(act) {
    this.#list.addEventListener("click", (click) => {
      const button = click.target instanceof HTMLButtonElement ? click.target : undefined;
      const row = button?.closest("li");
      if (button && row?.dataset.id) act(row.dataset.id, button.value === "again" ? "again" : "remove");
    });
  }

  /** @param {Entry[]} entries @param {(entry: Entry) => string} explain */
  render(entries, explain) {
    const gone = new Set(this.#rows.keys());
    for (const entry of entries) {
      gone.delete(entry.id);
      const row = this.#rows.get(entry.id) ?? this.#add(entry);
      if (row.dataset.state !== entry.state) {
        row.dataset.state = entry.state;
        row.querySelector(".actions")?.replaceChildren(...this.#actions(entry));
      }
      setText(/** @type {HTMLElement} */ (row.querySelector(".state")), explain(entry));
    }
    for (const id of gone) {
      this.#rows.get(id)?.remove();
      this.#rows.delete(id);
    }
  }

  #add(/** @type {Entry} */ entry) {
    const row = element("li", { className: "message mine pending" },
      element("span", { className: "who", dir: "auto" }, entry.name || texts.guest),
      element("p", { className: "text", dir: "auto" }, entry.text),
      element("p", { className: "state" }),
      element("div", { className: "actions" }),
    );
    row.dataset.id = entry.id;
    dress(row, entry.name || texts.guest);
    this.#rows.set(entry.id, row);
    this.#list.append(row);
    return row;
  }

  #actions(/** @type {Entry} */ entry) {
    if (entry.state !== "unsure" && entry.state !== "refused") return [];
    return [
      element("button", { type: "button", className: "link", value: "again" }, texts.sendAgain),
      element("button", { type: "button", className: "link", value: "remove" }, texts.remove),
    ];
  }
}

/** Where a person writes: name, text, and what was sent before. */
class Composer {
  static MOST_REMEMBERED = 50;

  maxBytes = 8192;

  #name = /** @type {HTMLInputElement} */ (byID("name"));
  #text = /** @type {HTMLTextAreaElement} */ (byID("text"));
  #hint = byID("hint");
  #submit;
  #session = storage("sessionStorage");
  #local = storage("localStorage");
  /** @type {string[]} Oldest first. */
  #sent = this.#session.get("sent") ?? [];
  /** Which of #sent is shown; #sent.length is the draft. */
  #shown = this.#sent.length;
  #draft = "";

  /** @param {(name: string, text: string) => string | undefined} submit returns why it cannot take the message */
  constructor(submit) {
    this.#submit = submit;
    this.#name.value = this.#local.get("name") ?? "";
    this.#text.value = this.#session.get("draft") ?? "";
    this.#name.addEventListener("input", () => this.#named());
    this.#text.addEventListener("input", () => this.#typed());
    this.#text.addEventListener("keydown", (key) => this.#keyed(key));
    byID("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#typed();
    // On a phone the keyboard would cover the conversation before anybody wanted to write.
    if (matchMedia("(hover: hover)").matches) this.focus();
  }

  focus() {
    this.#text.focus({ preventScroll: true });
  }

  #named() {
    let name = this.#name.value;
    while (bytes(name) > MAX_NAME_BYTES) name = [...name].slice(0, -1).join("");
    if (name !== this.#name.value) this.#name.value = name;
    this.#local.set("name", name);
  }

  #typed() {
    const over = bytes(this.#message()) - this.maxBytes;
    this.#say(over > 0 ? texts.tooLong(over) : undefined);
    this.#session.set("draft", this.#text.value);
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
    this.#session.set("sent", this.#sent);
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

  #put(/** @type {string} */ text) {
    this.#text.value = text;
    this.#typed();
  }
}

/** The head of the page: where one is, how the connection is, and who else there is. */
class Header {
  /** More chips than a screen has room for would only say "many". */
  static MOST_PODS = 16;

  #heading = byID("heading");
  #connection = byID("connection");
  #status = byID("connection-text");
  #countdown = byID("countdown");
  #reconnect = byID("reconnect");
  #pods = byID("pods");
  /** @type {string | undefined} */
  #title;
  #everConnected = false;

  /** @param {() => void} reconnect */
  constructor(reconnect) {
    this.#reconnect.addEventListener("click", reconnect);
  }

  /** @param {Connection} connection @param {string} pod @param {number} unread */
  render(connection, pod, unread) {
    const { phase } = connection;
    if (phase === "live") this.#everConnected = true;
    const away = phase === "closed" || (phase === "connecting" && this.#everConnected);
    const status = away ? texts.closed : texts[phase];
    this.#connection.dataset.state = away ? "closed" : phase;
    setText(this.#status, status);
    const seconds = phase === "closed" ? Math.ceil((connection.retryAt - now()) / 1000) : 0;
    setText(this.#countdown, away ? texts.retryIn(Math.max(0, seconds)) : "");
    this.#reconnect.hidden = phase !== "closed";

    if (pod) setText(this.#heading, texts.heading(pod));
    const name = away ? texts.closed : pod ? texts.title(pod) : document.title;
    const title = unread > 0 ? texts.unread(unread, name) : name;
    if (title !== this.#title) document.title = this.#title = title;
  }

  /** @param {Pod[]} pods @param {string} here @param {boolean} standalone */
  showPods(pods, here, standalone) {
    const chips = pods.slice(0, Header.MOST_PODS).map(({ pod, people }) => {
      const chip = element("li", {}, element("b", {}, pod), element("span", {}, texts.people(people)));
      if (pod === here) {
        chip.setAttribute("aria-current", "true");
        chip.title = texts.podHere;
      }
      return chip;
    });
    if (pods.length > chips.length) chips.push(element("li", {}, texts.morePods(pods.length - chips.length)));
    if (standalone) chips.push(element("li", { className: "standalone" }, texts.standalone));
    this.#pods.replaceChildren(...chips);
  }
}

/** Lines across the page for what concerns everybody: each has a name, and is there or not. */
class Banners {
  #box = byID("banners");
  /** @type {Map<string, HTMLElement>} */
  #shown = new Map();

  /** @param {string} name @param {string | undefined} text none takes the banner away @param {HTMLElement} [action] */
  show(name, text, action) {
    const banner = this.#shown.get(name);
    if (banner?.firstChild?.textContent === text) return;
    banner?.remove();
    this.#shown.delete(name);
    if (!text) return;
    const made = element("p", { className: name }, element("span", {}, text));
    if (action) made.append(action);
    this.#shown.set(name, made);
    this.#box.append(made);
  }
}

/**
 * "How it works": the way of the last message, with what was measured. Two clocks are never mixed: the browser's
 * measures the round trip of one's own message, the pod's measures its part.
 *
 * @typedef {{ id: string, sentAt: number, roundTrip?: number, podMS?: number }} Journey
 */
class Panel {
  /** A person cannot read a panel that changes more often. */
  static REFRESH_MS = 250;

  #panel = byID("panel");
  #button = byID("how");
  #path = byID("path");
  #figures = byID("figures");
  #render;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {(panel: Panel) => void} render */
  constructor(render) {
    this.#render = render;
    byID("try").append(...texts.tryThese.map((text) => element("li", {}, text)));
    this.#button.addEventListener("click", () => this.#toggle());
  }

  #toggle() {
    const open = this.#panel.hidden;
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    clearInterval(this.#timer);
    if (!open) return;
    this.#render(this);
    this.#timer = setInterval(() => this.#render(this), Panel.REFRESH_MS);
  }

  /** @param {string[]} steps @param {Journey | undefined} journey */
  show(steps, journey) {
    if (this.#path.textContent !== steps.join("")) this.#path.replaceChildren(...steps.map((step) => element("li", {}, step)));
    const figures = /** @type {[string, number][]} */ ([
      [texts.roundTrip, journey?.roundTrip],
      [texts.podPart, journey?.podMS],
    ].filter(([, ms]) => ms !== undefined));
    const key = JSON.stringify(figures);
    if (this.#figures.dataset.key === key) return;
    this.#figures.dataset.key = key;
    const whole = Math.max(...figures.map(([, ms]) => ms), Number.MIN_VALUE);
    this.#figures.replaceChildren(...figures.flatMap(([name, ms]) => {
      const value = element("dd", {}, texts.milliseconds(ms));
      value.style.setProperty("--share", String(ms / whole));
      return [element("dt", {}, name), value];
    }));
  }
}

/** Puts the words into index.html. */
function fillTexts() {
  const words = /** @type {Record<string, string>} */ (/** @type {unknown} */ (texts));
  for (const node of document.querySelectorAll("[data-text], [data-label], [data-placeholder]")) {
    const { text, label, placeholder } = /** @type {HTMLElement} */ (node).dataset;
    if (text) node.textContent = words[text];
    if (label) node.setAttribute("aria-label", words[label]);
    if (placeholder) node.setAttribute("placeholder", words[placeholder]);
  }
}

/** The page: it hears events and people, and tells the parts. */
class Page {
  /** How much of the conversation a reload brings back at once, without asking a pod. */
  static KEPT_ITEMS = 200;
  static KEPT_MS = 1_000;
  /** A hidden tab gets no animation frames. */
  static HIDDEN_FRAME_MS = 200;
  /** How often to look whether the connection is really alive, and which silences are suspicious. */
  static CHECK_MS = 5_000;
  static SLEPT_MS = 90_000; // longer than the minute to which browsers stretch timers of hidden tabs
  static OVERDUE_MS = 20_000;

  #session = storage("sessionStorage");
  #version = document.querySelector('meta[name="version"]')?.getAttribute("content");
  /** @type {Welcome | undefined} */
  #welcome;
  /** @type {Pod[]} */
  #pods = [];
  #kafka = "up";
  #position = "";
  #lastOffset = -1;
  #unread = 0;
  /** What comes before the first "live" of a first visit is history, not news. */
  #caughtUpOnce = false;
  /** @type {Journey | undefined} */
  #journey;
  /** @type {Message | undefined} */
  #lastMessage;
  #frameAsked = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #saveTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #countdownTimer;

  #outbox = new Outbox(this.#session.get("outbox") ?? [], (entries) => this.#session.set("outbox", entries));
  #conversation = new Conversation();
  #connection = new Connection(() => this.#address(), (event) => this.#hear(event), () => this.#phaseChanged());
  #view = new View(this.#conversation, (message) => this.#describe(message), () => this.#askFrame());
  #pendingRows = new PendingRows((id, action) => this.#decide(id, action));
  #header = new Header(() => this.#reconnectNow());
  #banners = new Banners();
  #composer = new Composer((name, text) => this.#say(name, text));

  start() {
    new Panel((panel) => this.#showPath(panel));
    this.#restore();
    const latest = byID("latest");
    latest.addEventListener("click", () => {
      this.#view.toEnd();
      this.#askFrame();
      this.#composer.focus();
    });
    this.#followLifecycle();
    this.#connection.open();
  }

  // The conversation

  /** What the pod says. Everything here is quick: the document changes in the next frame. */
  #hear(/** @type {ChatEvent} */ event) {
    switch (event.type) {
      case "welcome": this.#welcomed(event); break;
      case "message": this.#received(event); break;
      case "live": this.#caughtUp(event.position); break;
      case "ack": this.#acked(event); break;
      case "reject": this.#refused(event.id, event.reason); break;
      case "gap": this.#lost(texts.gap(event.missing)); break;
      case "reset": this.#lost(texts.reset); this.#forgetPosition(); break;
      case "status": this.#kafkaIs(event.kafka); break;
      case "pods":
        this.#pods = event.pods;
        this.#header.showPods(this.#pods, this.#welcome?.pod ?? "", this.#welcome?.standalone ?? false);
        break;
    }
    this.#askFrame();
  }

  #welcomed(/** @type {Welcome} */ welcome) {
    const before = this.#welcome?.pod ?? this.#session.get("pod");
    this.#welcome = welcome;
    this.#session.set("pod", welcome.pod);
    this.#composer.maxBytes = welcome.max_bytes || this.#composer.maxBytes;
    byID("log").setAttribute("aria-busy", "true"); // a replay is not read out line by line

    if (welcome.resumed) {
      if (before && before !== welcome.pod) this.#conversation.note(texts.moved(welcome.pod));
    } else if (this.#position) {
      if (welcome.reason === "gap") {
        this.#lost(texts.gap(undefined));
      } else {
        this.#lost(welcome.reason === "reset" ? texts.reset : texts.fresh);
        this.#forgetPosition();
      }
    } else {
      this.#outbox.doubt();
    }

    this.#kafkaIs(welcome.kafka);
    this.#header.showPods(this.#pods, welcome.pod, welcome.standalone);
    this.#banners.show("partitions", welcome.partitions > 1 ? texts.partitions(welcome.topic, welcome.partitions) : undefined);
    const old = welcome.version && this.#version && welcome.version !== this.#version;
    const reload = element("button", { type: "button", className: "link", onclick: () => location.reload() }, texts.reload);
    this.#banners.show("version", old ? texts.newVersion : undefined, reload);
  }

  #received(/** @type {Said} */ event) {
    this.#position = event.position;
    this.#lastOffset = event.offset;
    this.#saveSoon();
    const entry = this.#outbox.get(event.id);
    if (entry) this.#outbox.remove(entry); // one's own message event is an ack
    this.#show(event.id || event.position, Boolean(entry), event);
  }

  /** Adds a message to the conversation, unless it is there. */
  #show(/** @type {string} */ key, /** @type {boolean} */ mine, /** @type {Partial<Said> & { text: string }} */ said) {
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

  #lost(/** @type {string} */ line) {
    this.#conversation.note(line);
    this.#outbox.doubt();
    this.#saveSoon();
  }

  #forgetPosition() {
    this.#position = "";
    this.#lastOffset = -1;
  }

  #caughtUp(/** @type {string | undefined} */ position) {
    if (position) this.#position = position;
    byID("log").setAttribute("aria-busy", "false");
    this.#caughtUpOnce = true;
    this.#saveSoon();
    // Stored before the connection broke, and not in what was replayed: it stands in a gap. Its place is lost, not its text.
    for (const entry of this.#outbox.all("stored")) this.#settle(entry);
    // What is sent and still here is not in the replay, so it did not arrive: the same again, with the same id.
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
    if (ack.offset <= this.#lastOffset) this.#settle(entry); // its event would have come by now
  }

  /** A message of one's own that is stored, and whose event will not come. */
  #settle(/** @type {Entry} */ entry) {
    this.#outbox.remove(entry);
    this.#show(entry.id, true, { ...entry, pod: this.#welcome?.pod });
  }

  #refused(/** @type {string | undefined} */ id, /** @type {string} */ reason) {
    const entry = this.#outbox.get(id);
    if (entry) this.#outbox.change(entry, { state: "refused", reason });
    else this.#conversation.note(texts.refused(reason));
    setText(byID("announcer"), texts.refused(reason));
  }

  #kafkaIs(/** @type {"up" | "down"} */ state) {
    this.#kafka = state;
    this.#banners.show("kafka", state === "down" ? texts.kafkaDown : undefined);
  }

  // What the person does

  /** @returns {string | undefined} why the message cannot be taken */
  #say(/** @type {string} */ name, /** @type {string} */ text) {
    if (this.#outbox.full) return texts.tooMany;
    this.#outbox.add(name, text);
    this.#view.firstUnread = undefined;
    this.#view.toEnd();
    this.#sendWaiting();
    this.#askFrame();
  }

  #decide(/** @type {string} */ id, /** @type {"again" | "remove"} */ action) {
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
    this.#outbox.change(entry, { state: "sent" });
    this.#journey = { id: entry.id, sentAt: now() };
    this.#connection.send({ type: "message", id: entry.id, name: entry.name, text: entry.text });
  }

  #reconnectNow() {
    this.#connection.open();
    this.#composer.focus();
  }

  // The connection

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
      this.#frame(); // the clock that was asked for the next frame may never tick in the other state
    });
    // A frozen page cannot answer, and one that is kept for the back button must not hold a socket. Both come back by position.
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
    addEventListener("online", () => this.#connection.open());

    let checked = Date.now();
    setInterval(() => {
      const slept = Date.now() - checked > Page.SLEPT_MS;
      checked = Date.now();
      const waits = this.#journey && this.#outbox.get(this.#journey.id)?.state === "sent";
      const overdue = waits && this.#kafka === "up" && now() - (this.#journey?.sentAt ?? 0) > Page.OVERDUE_MS;
      if (this.#connection.phase === "live" && (slept || overdue)) this.#connection.open();
    }, Page.CHECK_MS);
  }

  // Reload

  #saveSoon() {
    this.#saveTimer ??= setTimeout(() => this.#save(), Page.KEPT_MS);
  }

  /** Position and messages are kept together: a position without its messages would be a hole on the screen. */
  #save() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    this.#session.set("conversation", {
      position: this.#position,
      lastOffset: this.#lastOffset,
      items: this.#conversation.newest(Page.KEPT_ITEMS),
    });
  }

  #restore() {
    const kept = this.#session.get("conversation");
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

  // The screen

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
    this.#pendingRows.render(this.#outbox.all(), (entry) => this.#explain(entry));
    if (this.#looking) this.#unread = 0;
    const latest = byID("latest");
    latest.hidden = this.#view.pinned;
    setText(latest, this.#unread > 0 ? texts.newMessages(this.#unread) : texts.latest);
    byID("empty").hidden = !this.#caughtUpOnce || this.#conversation.end > 0 || this.#outbox.all().length > 0;
    this.#header.render(this.#connection, this.#welcome?.pod ?? "", this.#unread);
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

  #describe(/** @type {Message} */ message) {
    const place = texts.place(this.#welcome?.topic ?? "", message.offset ?? 0);
    return `${fullTime.format(message.at)}: ${message.pod ? texts.origin(message.pod, place) : texts.originKafka(place)}`;
  }

  #showPath(/** @type {Panel} */ panel) {
    const message = this.#lastMessage;
    if (!message) return panel.show([texts.noPath], undefined);
    const people = this.#pods.reduce((sum, pod) => sum + pod.people, 0);
    panel.show([
      message.mine ? texts.you : message.name,
      ...(message.pod ? [texts.writtenBy(message.pod)] : []),
      texts.keptAt(texts.place(this.#welcome?.topic ?? "", message.offset ?? 0)),
      texts.allPods(Math.max(1, this.#pods.length)),
      texts.everybody(Math.max(1, people)),
    ], this.#journey?.id === message.id ? this.#journey : undefined);
  }
}

fillTexts();
new Page().start();
