/** The server's own numbers, from /metrics, while somebody looks at them. */

import { ROOT } from "./explorer-query.js";

const EVERY_MS = 2_000;

const ABSENT = "No numbers here: the server has access rules, or serves its metrics on another port.";

/** @typedef {Map<string, number>} Sums  the sums of all processes, by the name of the metric */

/** The rows: a name, and its text from the numbers now, those before, and the seconds between. */
const ROWS = /** @type {[string, (now: Sums, before: Sums, seconds: number) => string][]} */ ([
  ["Clients", (now) => number(now, "brook_subscribers")],
  ["Distinct subscriptions", (now) => number(now, "brook_subscriptions")],
  ["Live result sets", (now) => `${number(now, "brook_result_sets")}, ${number(now, "brook_result_set_documents")} documents`],
  ["Events", (now, before, seconds) => rate(now, before, seconds, "brook_events_total")],
  ["Deliveries", (now, before, seconds) => rate(now, before, seconds, "brook_deliveries_total")],
  ["Lag behind MongoDB", (now, before) => mean(now, before, "brook_lag_seconds")],
  ["Queued for slow clients", (now) => `${number(now, "brook_queue_bytes")} bytes`],
  ["MongoDB's log reaches back", (now) => hours(now.get("brook_log_window_seconds"))],
]);

/** @param {HTMLDetailsElement} part */
export function setUpServer(part) {
  const list = /** @type {HTMLElement} */ (part.querySelector("dl"));
  const told = /** @type {HTMLElement} */ (part.querySelector("[role=status]"));
  /** @type {Sums} */
  let before = new Map();
  let at = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  async function look() {
    const { now, why } = await numbers();
    if (!part.open) return;
    told.textContent = why;
    const seconds = (performance.now() - at) / 1_000;
    list.replaceChildren(...ROWS.flatMap(([name, text]) => (now.size ? row(name, text(now, before, seconds)) : [])));
    before = now;
    at = performance.now();
    if (!why) timer = setTimeout(look, EVERY_MS);
  }

  part.addEventListener("toggle", () => {
    clearTimeout(timer);
    before = new Map();
    if (part.open) look();
  });
}

/** @returns {Promise<{ now: Sums, why: string }>} */
async function numbers() {
  try {
    const answer = await fetch(new URL("metrics", ROOT));
    if (!answer.ok) return { now: new Map(), why: ABSENT };
    return { now: sums(await answer.text()), why: "" };
  } catch (error) {
    return { now: new Map(), why: `The server does not answer: ${error}. Open this again to try again.` };
  }
}

/** Prometheus' text format; labels are of no interest here. @param {string} text @returns {Sums} */
function sums(text) {
  const found = new Map();
  for (const [, name, value] of text.matchAll(/^(\w+)(?:\{.*\})? (\S+)$/gm)) found.set(name, (found.get(name) ?? 0) + Number(value));
  return found;
}

/** @param {string} name @param {string} text */
function row(name, text) {
  return [element("dt", name), element("dd", text)];
}

/** @param {string} kind @param {string} text */
function element(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text });
}

/** @param {Sums} now @param {string} name */
function number(now, name) {
  return Math.round(now.get(name) ?? 0).toLocaleString("en");
}

/** @param {Sums} now @param {Sums} before @param {string} name */
function grown(now, before, name) {
  return (now.get(name) ?? 0) - (before.get(name) ?? now.get(name) ?? 0);
}

/** @param {Sums} now @param {Sums} before @param {number} seconds @param {string} name */
function rate(now, before, seconds, name) {
  return before.size ? `${(grown(now, before, name) / seconds).toFixed(1)}/s` : "…";
}

/** @param {Sums} now @param {Sums} before @param {string} name */
function mean(now, before, name) {
  const count = grown(now, before, `${name}_count`);
  return count > 0 ? `${((1_000 * grown(now, before, `${name}_sum`)) / count).toFixed(1)} ms` : "no change just now";
}

/** @param {number | undefined} seconds */
function hours(seconds) {
  return seconds === undefined ? "not known yet" : `${(seconds / 3_600).toFixed(1)} hours`;
}
