/** The page: what the stream brings, as a list, and how the connection is. */

import { Brook } from "./brook.js";
import { refuse, setUp, streamOf } from "./form.js";

// As many as somebody may still scroll through, in as much text as a phone may still lay out.
const KEPT = 200;
const KEPT_CHARACTERS = 2_000_000;

// Beyond this, a text is too long to be read closely, and a node for every comma would cost too much.
const BREAKABLE_CHARACTERS = 2_000;

// A screen reader is told of new events at most this often: it could not keep up with each.
const ANNOUNCE_MS = 5_000;

// Which number above the list counts it: an envelope's event is named after its operation.
const COUNTED = {
  message: "message",
  insert: "message",
  update: "message",
  replace: "message",
  delete: "delete",
  reset: "reset",
};

const STATES = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  ended: "Ended",
};

const RESETS = {
  "history-lost": () => "Changes were missed: the log no longer reaches back to where this page was.",
  "invalid-id": () => "This server does not know the place where this page left off.",
  "position-unknown": () => "The connection was lost before there was a place to resume from: changes may be missing.",
  "collection-dropped": (ns) => `The collection ${ns} was dropped.`,
  "collection-renamed": (ns) => `The collection ${ns} was renamed.`,
  "database-dropped": (ns) => `The database ${ns} was dropped.`,
  "oversized-event": (ns) => `A change in ${ns} was too large to be sent.`,
  "unreadable-event": () => "A change could not be read, and was skipped.",
};

const $ = (id) => document.getElementById(id);

const counts = { message: 0, delete: 0, reset: 0 };
const lengths = [];
let characters = 0;
let pending = [];
let heldBack = 0;
let drawing = false;
let paused = false;
let unannounced = 0;

let brook = null;
let listening = new AbortController();

setUp(connect);
// What the page's own address asks for, the stream is asked for: /?since=... and the like.
connect(streamOf(location.search));
$("pause").addEventListener("click", () => pauseOrGoOn(!paused));

/** Follow a stream, in place of the one before, whose events are no part of it. */
function connect(url) {
  listening.abort();
  listening = new AbortController();
  const { signal } = listening;
  brook?.close();
  clear();
  brook = new Brook(url);
  for (const kind of Object.keys(COUNTED)) {
    const text = kind === "reset" ? resetText : (data) => data;
    brook.addEventListener(kind, (event) => take(kind, text(event.data)), { signal });
  }
  brook.addEventListener("statechange", showState, { signal });
  showState();
}

function clear() {
  for (const kind of Object.keys(counts)) counts[kind] = 0;
  $("events").replaceChildren();
  lengths.length = characters = 0;
  pending = [];
  pauseOrGoOn(false);
}

/** An event has come: it is drawn with all others of the same frame, however many these are. */
function take(kind, text) {
  counts[COUNTED[kind]] += 1;
  pending.push({ kind, text, time: new Date() });
  if (pending.length > KEPT) pending.shift();
  if (paused) heldBack += 1;
  draw();
  announce();
}

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const kind of Object.keys(counts)) $(`${kind}-count`).textContent = counts[kind];
    $("last-id").textContent = $("last-id").title = brook?.lastId || "none";
    $("last-id-hint").hidden = !brook?.lastId;
    if (paused) {
      $("pause").textContent = heldBack ? `Go on (${heldBack} new)` : "Go on";
    } else {
      append(pending);
      pending = [];
    }
  });
}

/** Later events come later in the document; the style puts them on top. */
function append(events) {
  $("events").append(...events.map(item));
  for (const { text } of events) {
    lengths.push(text.length);
    characters += text.length;
  }
  while (lengths.length > KEPT || (characters > KEPT_CHARACTERS && lengths.length > 1)) {
    $("events").firstElementChild.remove();
    characters -= lengths.shift();
  }
  $("empty").hidden = lengths.length > 0;
}

/** Only ever as text: what a document holds, a stranger may have written. */
function item({ kind, text, time }) {
  const label = document.createElement("b");
  label.textContent = `${kind}: `;
  const li = document.createElement("li");
  li.className = kind;
  li.dataset.time = time.toLocaleTimeString();
  li.append(label, ...breakable(text));
  return li;
}

/** Compact JSON has no spaces at which a line could end: let it end after a comma. */
function breakable(text) {
  if (text.length > BREAKABLE_CHARACTERS) return [text];
  return text.split(/(?<=,)/).flatMap((part) => [part, document.createElement("wbr")]);
}

function resetText(data) {
  let facts = {};
  try {
    facts = JSON.parse(data);
  } catch {
    // Whatever it says, it is a reset.
  }
  const { reason = "unknown", ns = "" } = facts;
  const what = Object.hasOwn(RESETS, reason) ? RESETS[reason](ns) : "The stream has a gap.";
  return `${what} What came before may be out of date. (${reason})`;
}

function showState() {
  document.documentElement.dataset.state = brook.state;
  $("state").textContent = STATES[brook.state];
  const isRefused = brook.state === "ended";
  $("why").textContent = isRefused ? "" : brook.why;
  refuse(isRefused ? brook.why : "");
}

function pauseOrGoOn(pause) {
  paused = pause;
  heldBack = 0;
  $("pause").textContent = paused ? "Go on" : "Pause";
  draw();
}

function announce() {
  unannounced += 1;
  if (unannounced > 1) return;
  setTimeout(() => {
    $("news").textContent = unannounced === 1 ? "1 new event" : `${unannounced} new events`;
    unannounced = 0;
  }, ANNOUNCE_MS);
}
