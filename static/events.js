/** The events view: a list of the events of the stream, and the state of the connection. */

import { EventStream } from "./brook-stream.js";
import { listStreams } from "./explorer-query.js";
import { refuse, setUp, streamOf } from "./form.js";

// Limits of the list: events that a person may still scroll through, and text that a phone can lay out.
const KEPT = 200;
const KEPT_CHARACTERS = 2_000_000;

// Nobody reads a longer text closely, and a node for each of its commas would cost too much.
const BREAKABLE_CHARACTERS = 2_000;

// Minimum interval between announcements: a screen reader could not keep up with each event.
const ANNOUNCE_MS = 5_000;

// The counter above the list, by event name. In envelope format, events are named after operations.
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
  interrupted: "Interrupted",
  reconnecting: "Reconnecting",
  ended: "Ended",
};

const MAY_BE_OPENED = ["unknown-stream", "forbidden"];

const RESETS = {
  "history-lost": () => "Changes were missed: the log no longer reaches back to the last event of this page.",
  "invalid-id": () => "The server does not know the last event id of this page.",
  "position-unknown": () => "The connection was lost before the first id arrived; changes may be missing.",
  "collection-dropped": (ns) => `The collection ${ns} was dropped.`,
  "collection-renamed": (ns) => `The collection ${ns} was renamed.`,
  "database-dropped": (ns) => `The database ${ns} was dropped.`,
  "oversized-event": (ns) => `A change in ${ns} was too large to send.`,
  "unreadable-event": () => "An unreadable change was skipped.",
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

let stream = null;
let login = null;

/** Begin, with a login for servers that ask for one. */
export function follow(pageLogin) {
  login = pageLogin;
  login.addEventListener("login", () => renew());
  setUp(connect, () => login.isOffered);
  // The page passes its own query, such as /?since=..., to the stream.
  connect(streamOf(location.search));
  $("pause").addEventListener("click", () => pauseOrGoOn(!paused));
}

/** Another token may open a stream that was refused; one that is open goes on from its position. */
function renew() {
  if (stream.state === "ended") connect(streamOf(location.search));
  else stream.reconnect();
}

/** Follow a stream instead of the previous one, and clear the previous events. */
function connect(url) {
  stream?.close();
  clear();
  const since = url.searchParams.get("since");
  url.searchParams.delete("since");
  stream = new EventStream(url.href, {
    since,
    token: login.token,
    fetch: login.fetch,
    onEvent: ({ type, data }) => take(type, type === "reset" ? resetText(data) : data),
    onPosition: draw,
    onState: showState,
  });
  showState();
}

function clear() {
  for (const kind of Object.keys(counts)) counts[kind] = 0;
  $("events").replaceChildren();
  lengths.length = characters = 0;
  pending = [];
  pauseOrGoOn(false);
}

/** Queue an event. The next animation frame draws all queued events at once. */
function take(kind, text) {
  if (!Object.hasOwn(COUNTED, kind)) return;
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
    $("last-id").textContent = $("last-id").title = stream?.position || "none";
    $("last-id-hint").hidden = !stream?.position;
    if (paused) {
      $("pause").textContent = heldBack ? `Resume (${heldBack} new)` : "Resume";
    } else {
      append(pending);
      pending = [];
    }
  });
}

/** Append events in document order; the style sheet shows the newest on top. */
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

/** Build a list item from text, never from HTML: strangers may have written the document. */
function item({ kind, text, time }) {
  const label = document.createElement("b");
  label.textContent = `${kind}: `;
  const li = document.createElement("li");
  li.className = kind;
  li.dataset.time = time.toLocaleTimeString();
  li.append(label, ...breakable(text));
  return li;
}

/** Allow a line break after each comma: compact JSON has no spaces to break at. */
function breakable(text) {
  if (text.length > BREAKABLE_CHARACTERS) return [text];
  return text.split(/(?<=,)/).flatMap((part) => [part, document.createElement("wbr")]);
}

function resetText(data) {
  let facts = {};
  try {
    facts = JSON.parse(data);
  } catch {
    // The event is a reset even if its data is not JSON.
  }
  const { reason = "unknown", ns = "" } = facts;
  const sentence = Object.hasOwn(RESETS, reason) ? RESETS[reason](ns) : "The stream has a gap.";
  return `${sentence} Earlier data may be out of date. (${reason})`;
}

function showState() {
  if (stream.error?.code === "closed") return; // another one follows
  document.documentElement.dataset.state = stream.state;
  $("state").textContent = STATES[stream.state];
  const isRefused = stream.state === "ended";
  $("why").textContent = isRefused ? "" : stream.why;
  refuse(isRefused ? stream.why : "");
  // There may be more for a client with a token: the list says whether the server takes one.
  if (isRefused && MAY_BE_OPENED.includes(stream.error.code)) listStreams(login);
}

function pauseOrGoOn(pause) {
  paused = pause;
  heldBack = 0;
  $("pause").textContent = paused ? "Resume" : "Pause";
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
