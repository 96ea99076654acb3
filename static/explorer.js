/**
 * The explorer: the documents of a live query as a table, and its changes beside it.
 *
 * Batches are taken as they come; the page is drawn from them at most ten times a second.
 */

import { Brook } from "./brook.js";
import { setUpCopy } from "./explorer-copy.js";
import { DocumentPanel } from "./explorer-document.js";
import { ChangeLog } from "./explorer-log.js";
import { QueryForm, ROOT, WINDOW, listStreams, read } from "./explorer-query.js";
import { Rate } from "./explorer-rate.js";
import { MAX_ROWS, Rows } from "./explorer-rows.js";
import { Table } from "./explorer-table.js";

// Nobody reads faster; at each frame, drawing would fill the main thread.
const DRAW_MS = 100;

// Marks are taken away, and a screen reader is told, this often.
const TICK_MS = 500;
const ANNOUNCE_MS = 5_000;

// The problem that is told in the stream, and after which a query that nobody listens to is gone for sure.
const TOO_LARGE = "snapshot-too-large";
const GONE_MS = 1_100;

/** @type {Record<string, string>} */
const STATES = {
  connecting: "Connecting",
  live: "Live",
  interrupted: "Interrupted",
  reconnecting: "Reconnecting",
  ended: "Ended",
};

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Explorer {
  #login;
  #brook;
  #rows = new Rows();
  #table = new Table($("documents-frame"), (key) => this.#open(key));
  #log = new ChangeLog($("changes"), (key) => this.#open(key));
  #panel = new DocumentPanel($("document"), () => this.#draw());
  #rate = new Rate(/** @type {any} */ ($("rate-line")), $("rate"));
  #showCode = setUpCopy($("as-code"));
  #form;
  #shown = new AbortController();
  #coming = new AbortController();
  /** @type {import("./brook.js").Live | null} */
  #live = null;
  #search = "";
  /** @type {WeakMap<object, string>} */
  #texts = new WeakMap();
  /** @type {WeakSet<object>} */
  #refused = new WeakSet();
  #isWindow = false;
  #isPaused = false;
  #held = 0;
  #unannounced = 0;
  #isDrawing = false;
  #drawn = 0;

  /** @param {readonly import("./explorer-query.js").Stream[]} streams @param {import("./login.js").Login} login */
  constructor(streams, login) {
    const { token, fetch, isOffered } = (this.#login = login);
    // Tabs with tokens of their own must not see each other's documents.
    this.#brook = new Brook(ROOT, { token, fetch, share: !isOffered });
    login.addEventListener("login", () => this.#renew());
    if (isOffered && !streams.length) login.ask("");
    this.#form = new QueryForm(/** @type {any} */ ($("query")), streams, () => this.#ask());
    this.#brook.addEventListener("statechange", () => this.#showState());
    $("documents-pause").addEventListener("click", () => this.#pause(!this.#isPaused));
    $("search").addEventListener("input", ({ target }) => {
      this.#search = /** @type {HTMLInputElement} */ (target).value.trim().toLowerCase();
      this.#draw();
    });
    $("explorer").addEventListener("keydown", (event) => this.#press(event));
    setInterval(() => this.#later(), TICK_MS);
    setInterval(() => this.#announce(), ANNOUNCE_MS);
    this.#ask();
  }

  /** The stream that is chosen. */
  get stream() {
    return this.#form.texts.stream;
  }

  /** Open the query as it is written. The one that is shown stays until the new one is there. */
  async #ask() {
    const texts = this.#form.texts;
    if (!texts.stream) return;
    this.#coming.abort();
    const coming = (this.#coming = new AbortController());
    const answer = await read(texts, this.#login);
    if (coming.signal.aborted) return;
    if ("refusal" in answer) return this.#form.refuse(answer.refusal);
    history.replaceState(null, "", this.#form.link);
    this.#showCode(texts, answer.options, this.#login.isOffered);
    this.#follow(this.#brook.live(texts.stream, answer.options), coming, Boolean(answer.options.sort));
  }

  /** Another token may open other streams, and the same ones further. */
  async #renew() {
    this.#form.list((await listStreams(this.#login))?.streams ?? []);
    this.#brook.reconnect();
    this.#ask();
  }

  /** @param {import("./brook.js").Live} live @param {AbortController} coming @param {boolean} isWindow */
  #follow(live, coming, isWindow) {
    const { signal } = coming;
    const tell = () => live.error && this.#isRefusal(live.error) && this.#refuse(live.error, coming);
    live.addEventListener("statechange", tell, { signal });
    live.subscribe((documents, { changes, reason }) => {
      if (this.#shown !== coming) this.#replace(live, coming, isWindow);
      this.#take(documents, changes, reason);
    }, { signal });
    tell();
  }

  /** @param {import("./brook.js").Problem} error @param {AbortController} coming */
  #refuse(error, coming) {
    this.#refused.add(error);
    this.#form.refuse(error.message);
    coming.abort();
    // The connection of all queries has ended with it. It comes back without this one.
    if (error.code === TOO_LARGE) setTimeout(() => this.#brook.reconnect(), GONE_MS);
  }

  /**
   * True for a refusal that trying again does not change. A new query begins with the error of its connection,
   * which may be about the query before it.
   * @param {import("./brook.js").Problem} error
   */
  #isRefusal(error) {
    const { code, status = 0 } = error;
    return !this.#refused.has(error) && (code === TOO_LARGE || (status >= 400 && status < 500));
  }

  /**
   * The new query has documents: the old one goes, in one step.
   * @param {import("./brook.js").Live} live @param {AbortController} coming @param {boolean} isWindow
   */
  #replace(live, coming, isWindow) {
    this.#isWindow = isWindow;
    this.#shown.abort();
    this.#shown = coming;
    this.#live = live;
    this.#form.refuse("");
    this.#log.clear();
    this.#table.clear();
    this.#pause(false);
  }

  /** @param {readonly any[]} documents @param {readonly any[] | null} changes @param {string} [reason] */
  #take(documents, changes, reason) {
    const steps = this.#rows.take(documents, changes, performance.now());
    if (steps) this.#log.take(steps, new Date());
    else if (reason) this.#log.note(`All documents were read anew: ${reason}`, new Date());
    const count = steps?.length ?? 0;
    this.#rate.take(count, this.#live?.position ?? "");
    this.#unannounced += count;
    if (this.#isPaused) this.#held += count;
    this.#later();
  }

  /** Draw soon: once for all that comes until then. */
  #later() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    const wait = Math.max(0, DRAW_MS - (performance.now() - this.#drawn));
    setTimeout(() => requestAnimationFrame(() => this.#draw()), wait);
  }

  #draw() {
    this.#isDrawing = false;
    const now = (this.#drawn = performance.now());
    $("documents-pause").textContent = !this.#isPaused ? "Pause" : this.#held ? `Go on (${this.#held} new)` : "Go on";
    if (this.#isPaused && !this.#search) return;
    const listed = this.#rows.list(now);
    const rows = this.#search ? listed.filter(({ doc }) => this.#textOf(doc).includes(this.#search)) : listed;
    this.#table.draw(rows, now, this.#panel.key);
    this.#log.draw();
    this.#panel.draw(this.#rows.get(this.#panel.key)?.doc);
    this.#showSize(rows.length);
  }

  /** @param {number} found */
  #showSize(found) {
    if (!this.#live) return;
    const all = sizeText(this.#rows.size, this.#isWindow);
    const text = this.#search ? `${found} of ${all}` : all;
    if ($("size").textContent !== text) $("size").textContent = text;
    $("no-documents").hidden = this.#rows.size > 0;
  }

  /** @param {object} doc */
  #textOf(doc) {
    let text = this.#texts.get(doc);
    if (text === undefined) this.#texts.set(doc, (text = JSON.stringify(doc).toLowerCase()));
    return text;
  }

  /** @param {string} key */
  #open(key) {
    this.#panel.open(key);
    this.#panel.draw(this.#rows.get(key)?.doc);
    this.#later();
  }

  /** @param {boolean} isPaused */
  #pause(isPaused) {
    this.#isPaused = isPaused;
    this.#held = 0;
    this.#later();
  }

  /** A slash goes to the search, as on many pages; Escape closes the document. @param {KeyboardEvent} event */
  #press(event) {
    const isTyping = /** @type {Element} */ (event.target).matches("input, select, textarea");
    if (event.key === "/" && !isTyping) {
      event.preventDefault();
      $("search").focus();
    } else if (event.key === "Escape" && this.#panel.key) this.#panel.close();
  }

  #showState() {
    const { state, why } = this.#brook;
    document.documentElement.dataset.state = state;
    $("state").textContent = STATES[state] ?? state;
    $("why").textContent = why;
  }

  #announce() {
    if (!this.#unannounced) return;
    $("news").textContent = count(this.#unannounced, "change");
    this.#unannounced = 0;
  }
}

/** @param {number} size @param {boolean} isWindow */
function sizeText(size, isWindow) {
  if (size > MAX_ROWS) return `the first ${MAX_ROWS} of ${size} documents`;
  return isWindow && size === WINDOW ? `the first ${WINDOW} documents` : count(size, "document");
}

/** @param {number} number @param {string} noun */
function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
