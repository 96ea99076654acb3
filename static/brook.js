/**
 * Result sets and changes of MongoDB, live, for a page, a worker or Node.
 *
 *     import { Brook } from "/static/brook.js";
 *
 *     const brook = new Brook("/", { token: async () => "..." });
 *     const crawdads = brook.live("creatures", { filter: { type: "crawdad" }, sort: { size: 1 } });
 *     crawdads.subscribe((documents) => render(documents));
 *     for await (const change of brook.changes("creatures")) console.log(change.op, change.doc);
 *
 * `brook.d.ts` describes every option. A query (Live, Count, Changes) joins a Link with its first subscriber.
 * A Link is one event stream for up to 32 queries, and one position at which all of them are true.
 */

import { EventStream, LONGEST_BLOCK, Problem, report, timeOf, tooLarge } from "./brook-stream.js";

export { Problem };

// As many as the server takes in one request.
const LINK_QUERIES = 32;

// A query outlives its last subscriber by this: a component that is drawn anew subscribes again.
const LINGER_MS = 1_000;

// Unread changes of one `for await`.
const BUFFERED_CHANGES = 10_000;

// The state of several links is the first of these that one of them is in.
const STATES = ["reconnecting", "interrupted", "connecting", "live"];

/** All queries of a page, on as few connections as possible. Dispatches `statechange`. */
export class Brook extends EventTarget {
  state = "connecting";
  error = null;

  #base;
  #options;
  #links = new Set();
  #shared = new Map();
  #waiting = new Set();
  #isClosed = false;
  #withProgress = false;

  constructor(base = "/", { signal, ...options } = {}) {
    super();
    this.#base = new URL(base, globalThis.document?.baseURI);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    const isPage = globalThis.document !== undefined && options.token === undefined;
    this.#options = { bundle: true, share: isPage, ...options };
    signal?.addEventListener("abort", () => this.close(), { once: true });
    if (signal?.aborted) this.close();
  }

  get why() {
    return this.error?.message ?? "";
  }

  /** The documents that match, kept up to date. Equal calls share one result set. */
  live(stream, options) {
    return this.#share(Live, { stream, mode: "live", ...options });
  }

  /** The number of documents that match, kept up to date. */
  count(stream, options) {
    return this.#share(Count, { stream, mode: "count", ...options });
  }

  /** Every change from now on, or from `since`. */
  changes(stream, { since, ...options } = {}) {
    const attach = (query) => this.#attach(query, since);
    return new Changes({ stream, format: "envelope", ...options }, { attach });
  }

  /**
   * Resolves when every query shows all writes up to a position, such as a write's operationTime.
   * The server is then asked for its position each second: a write that changes no query sends no event.
   */
  reached(position, { signal } = {}) {
    const time = timeOf(position);
    if (time === undefined) throw new TypeError(`not a position: ${position}`);
    return new Promise((resolve, reject) => {
      const waiting = { time, resolve, reject };
      this.#waiting.add(waiting);
      const abort = () => this.#waiting.delete(waiting) && reject(signal.reason);
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted) abort();
      this.#settle();
      if (this.#waiting.size) this.#askForProgress();
    });
  }

  /** Connect anew at once, with a fresh token. Nothing is lost, and nothing comes twice. */
  reconnect() {
    for (const link of this.#links) link.source?.reconnect();
  }

  close() {
    this.#isClosed = true;
    const closed = new Problem("closed", "closed by this page");
    enter(this, "ended", closed);
    for (const link of this.#links) link.end(closed);
    this.#giveUp(closed);
  }

  #share(Kind, wanted) {
    const key = JSON.stringify(wanted);
    const home = { attach: (query) => this.#attach(query), drop: () => this.#shared.delete(key) };
    if (!this.#shared.has(key)) this.#shared.set(key, new Kind(wanted, home));
    return this.#shared.get(key);
  }

  /** Put a query on a link with room. A query with `since` needs a position and a link of its own. */
  #attach(query, since) {
    if (this.#isClosed) return query.end(this.error);
    const hasRoom = ({ queries, options }) => !since && !options.since && queries.size < options.limit;
    let link = [...this.#links].find(hasRoom);
    if (!link) {
      const isBundle = this.#options.bundle && !since;
      const options = { ...this.#options, since, limit: isBundle ? LINK_QUERIES : 1 };
      link = new Link(this.#base, { ...options, Source: isBundle ? this.#source() : EventStream }, this.#observer());
      this.#links.add(link);
    }
    link.add(query);
    this.#update();
  }

  /** The class of a link's connection: shared by the tabs if the browser can do that. */
  async #source() {
    const { share } = this.#options;
    if (!share || !globalThis.BroadcastChannel || !globalThis.navigator?.locks) return EventStream;
    return import("./brook-tabs.js").then(({ TabStream }) => TabStream, () => EventStream);
  }

  #observer() {
    return {
      progress: () => this.#withProgress,
      moved: () => this.#settle(),
      changed: () => this.#update(),
      left: (link) => {
        this.#links.delete(link);
        this.#update(link);
        if (link.error) this.#giveUp(link.error);
        else this.#settle();
      },
    };
  }

  #settle() {
    for (const waiting of this.#waiting) {
      if (![...this.#links].every((link) => link.isTrue() && timeOf(link.position) >= waiting.time)) continue;
      this.#waiting.delete(waiting);
      waiting.resolve();
    }
  }

  #giveUp(error) {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  #askForProgress() {
    if (this.#withProgress) return;
    this.#withProgress = true;
    for (const link of this.#links) link.change();
  }

  #update(left) {
    if (this.#isClosed) return;
    const rank = ({ state }) => STATES.indexOf(state);
    const [first] = [...this.#links].sort((one, other) => rank(one) - rank(other));
    const { state, error } = first ?? left;
    enter(this, state, error);
  }
}

/** Queries on one event stream. Events are applied together, at the id that ends them. */
class Link {
  queries = new Set();
  options;
  source = null;
  state = "connecting";
  error = null;

  #base;
  #observer;
  #timer = null;
  #named = {};
  #tagged = new Map();
  #pending = [];
  #held = 0;
  #isOver = false;
  #isRenewed = false;
  // Versions of the set of queries: the present one, and the ones of the connection and of its last commit.
  #present = 0;
  #asked = -1;
  #shown = -1;

  constructor(base, options, observer) {
    this.#base = base;
    this.options = options;
    this.#observer = observer;
  }

  get position() {
    return this.source?.position ?? "";
  }

  /** True if every query, also the latest one, is up to date at the position. */
  isTrue() {
    return this.#shown === this.#present && [...this.queries].every((query) => query.isHeld());
  }

  add(query) {
    this.queries.add(query);
    query.link = this;
    query.enter(this.state, this.error);
    this.change();
  }

  remove(query) {
    this.queries.delete(query);
    if (this.queries.size) this.change();
    else this.end(null);
  }

  /** Ask the server for the present queries, once for all queries that join in one turn. */
  change() {
    this.#present += 1;
    this.#timer ??= setTimeout(async () => {
      const Source = await this.options.Source;
      this.#timer = null;
      if (this.#isOver) return;
      if (this.source) this.source.restart();
      else this.source = this.#open(Source);
    });
  }

  end(error) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    enter(this, error ? "ended" : "connecting", error);
    this.source?.close();
    for (const query of this.queries) query.end(error);
    this.queries.clear();
    this.#observer.left(this);
  }

  #open(Source) {
    return new Source((from) => this.#request(from), {
      ...this.options,
      onConnect: () => this.#begin(),
      onEvent: (event) => this.#receive(event),
      onPosition: () => this.#commit(),
      onState: () => this.#follow(),
      onRefused: (problem) => this.#refuse(problem),
    });
  }

  /** Prepare for a new connection. Events that no id has committed will come again. */
  #begin() {
    this.#pending = [];
    this.#held = 0;
    this.#tagged.clear();
    if (!this.options.bundle) this.#asked = this.#present;
    for (const query of this.queries) query.cut();
  }

  #request({ position, since }) {
    const progress = this.#observer.progress() ? { progress: 1 } : {};
    if (this.options.bundle) return this.#post(position || since, progress);
    return this.#get(position, { since, ...progress });
  }

  #post(since, progress) {
    this.#named = Object.fromEntries([...this.queries].map((query, number) => [`q${number}`, query]));
    const subscriptions = {};
    for (const [name, query] of Object.entries(this.#named)) {
      const snapshot = since && query.isHeld() && !query.isStale ? {} : { snapshot: true };
      const { wanted } = query;
      subscriptions[name] = { ...wanted, ...progress, ...(wanted.mode === "live" ? snapshot : {}) };
    }
    const body = JSON.stringify({ since: since || undefined, subscriptions });
    const headers = { "Content-Type": "application/json" };
    return { url: new URL("stream", this.#base), method: "POST", headers, body };
  }

  #get(position, more) {
    const [query] = this.queries;
    const { stream, ...wanted } = { ...query.wanted, ...more };
    const url = new URL(`stream/${encodeURIComponent(stream)}`, this.#base);
    for (const [name, value] of Object.entries(wanted)) {
      for (const one of [value].flat()) if (one || one === 0) url.searchParams.append(name, written(one));
    }
    // Other claims may open other documents, and without a bundle there is no tag that would show it.
    const mayDiffer = wanted.mode === "live" && (this.#isRenewed || this.options.token);
    const headers = position && query.isHeld() && !mayDiffer ? { "Last-Event-ID": position } : {};
    return { url, headers };
  }

  #receive({ type, data }) {
    if (["problem", "bye", "feed", "commit"].includes(type)) return;
    const value = read(data);
    if (type === "opened") {
      const told = Object.entries(value);
      for (const [name, tag] of told) {
        this.#tagged.set(tag, [...(this.#tagged.get(tag) ?? []), this.#named[name]]);
      }
      const named = new Set(told.map(([name]) => this.#named[name]));
      if ([...this.queries].every((query) => named.has(query))) this.#asked = this.#present;
      // With other claims, the same query has other documents, and needs a snapshot.
      const others = told.filter(([name, tag]) => this.#named[name]?.isOther(tag));
      if (others.length) this.change();
    } else {
      this.#held += data.length;
      if (this.#held > LONGEST_BLOCK) throw tooLarge();
      this.#pending.push({ type, value });
    }
  }

  #commit() {
    const pending = this.#pending;
    this.#pending = [];
    this.#held = 0;
    const touched = new Set();
    for (const { type, value } of pending) {
      const concerned = value.of === undefined ? this.queries : this.#tagged.get(value.of);
      for (const query of concerned ?? []) {
        if (this.queries.has(query) && query.take(type, value)) touched.add(query);
      }
    }
    // A listener of one query may read the documents of another.
    for (const query of touched) query.settle();
    for (const query of touched) query.publish();
    this.#shown = this.#asked;
    this.#isRenewed = false;
    this.#observer.moved();
  }

  #follow() {
    const { state, error } = this.source;
    if (this.#isOver) return;
    if (state === "ended") return this.end(error);
    if (error?.code === "token-expired") this.#isRenewed = true;
    enter(this, state, error);
    for (const query of this.queries) query.enter(state, error);
    this.#observer.changed();
  }

  /** The server refuses a bundle for one of its subscriptions; the others go on without it. */
  #refuse(problem) {
    const [, name] = /^subscriptions\.([\w-]+)/.exec(problem.at) ?? [];
    const query = this.#named[name];
    if (!query || this.queries.size < 2) return false;
    this.queries.delete(query);
    query.end(problem);
    return true;
  }
}

/** One subscription at the server, and its listeners. Dispatches `statechange`. */
class Query extends EventTarget {
  state = "connecting";
  error = null;
  wanted;
  link = null;

  #home;
  #listeners = new Set();
  #timer;

  constructor(wanted, home) {
    super();
    const list = (value) => (Array.isArray(value) ? value.join() : value);
    this.wanted = { ...wanted, fields: list(wanted.fields), ops: list(wanted.ops) };
    this.#home = home;
    this.#linger();
  }

  get why() {
    return this.error?.message ?? "";
  }

  get position() {
    return this.link?.position ?? "";
  }

  /** Returns a function that ends the subscription; so does `signal`. */
  subscribe(listener, { signal } = {}) {
    const entry = { listener };
    const stop = () => {
      if (this.#listeners.delete(entry) && !this.#listeners.size) this.#linger();
    };
    if (signal?.aborted) return stop;
    signal?.addEventListener("abort", stop, { once: true });
    clearTimeout(this.#timer);
    this.#listeners.add(entry);
    if (!this.link) this.#home.attach(this);
    return stop;
  }

  /** Call every listener, also after one of them has thrown. */
  notify(...news) {
    for (const entry of [...this.#listeners]) {
      if (this.#listeners.has(entry)) call(entry.listener, ...news);
    }
  }

  enter(state, error) {
    const isEmpty = state === "live" && !this.isHeld();
    enter(this, isEmpty ? "connecting" : state, error);
  }

  end(error) {
    this.link = null;
    enter(this, error ? "ended" : "connecting", error);
  }

  /** False if the next connection has to begin with a snapshot. */
  isHeld() {
    return true;
  }

  /** True if the held documents belong to another tag. */
  isOther() {
    return false;
  }

  cut() {}
  settle() {}
  forget() {}

  #linger() {
    this.#timer = setTimeout(() => {
      this.#home.drop?.();
      this.forget();
      if (!this.link) return;
      this.link.remove(this);
      this.end(null);
    }, LINGER_MS);
    this.#timer.unref?.(); // must not keep Node running
  }
}

/** Every change of a stream: `subscribe((change) => ...)`, or `for await`. A gap is `{ op: "reset" }`. */
class Changes extends Query {
  #taken = [];
  #buffer;

  constructor({ buffer = BUFFERED_CHANGES, ...wanted }, home) {
    super(wanted, home);
    this.#buffer = buffer;
  }

  take(type, { of, ...change }) {
    return this.#taken.push({ op: type, ...change });
  }

  publish() {
    for (const change of this.#taken.splice(0)) this.notify(change);
  }

  /** Ends with `close()`, and throws the problem if the server refuses the stream. */
  async *[Symbol.asyncIterator]() {
    const limit = this.#buffer;
    const buffer = [];
    let wake = () => {};
    const stop = this.subscribe((change) => {
      // A reader that is too slow is told of its gap, as of any other.
      if (buffer.length >= limit) buffer.splice(0, limit, { op: "reset", reason: "slow-consumer" });
      buffer.push(change);
      wake();
    });
    const ended = () => wake();
    this.addEventListener("statechange", ended);
    try {
      for (;;) {
        while (buffer.length) yield buffer.shift();
        if (this.state === "ended" && this.error.code === "closed") return;
        if (this.state === "ended") throw this.error;
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      this.removeEventListener("statechange", ended);
      stop();
    }
  }
}

/** The number of documents that match: `subscribe((count) => ...)`. */
class Count extends Query {
  value = null;

  subscribe(listener, options) {
    const stop = super.subscribe(listener, options);
    if (this.value !== null && !options?.signal?.aborted) call(listener, this.value);
    return stop;
  }

  isHeld() {
    return this.value !== null;
  }

  take(type, { count }) {
    if (type === "count") this.value = count;
    return type === "count";
  }

  publish() {
    if (this.link) this.enter(this.link.state, this.link.error);
    this.notify(this.value);
  }

  forget() {
    this.value = null;
  }
}

/** The documents that match, in the server's order: `subscribe((documents, { changes, reason }) => ...)`. */
class Live extends Query {
  /** A new frozen array after each batch, the same one until then; null before the first snapshot. */
  documents = null;

  /** True if the documents are those of other claims: the next connection has to begin with a snapshot. */
  isStale = false;

  #tag = "";
  #held = new Map();
  #isWhole = false;
  #parts = [];
  #changes = [];
  #reason;

  subscribe(listener, options) {
    const stop = super.subscribe(listener, options);
    if (this.documents && !options?.signal?.aborted) call(listener, this.documents, { changes: null });
    return stop;
  }

  isHeld() {
    return this.documents !== null;
  }

  isOther(tag) {
    const isOther = this.isHeld() && tag !== this.#tag;
    this.#tag = tag;
    if (isOther) this.isStale = true;
    return isOther;
  }

  cut() {
    this.#parts = [];
  }

  forget() {
    this.documents = null;
    this.#isWhole = false;
    this.#held.clear();
  }

  take(type, { docs, resumed, reason, changes }) {
    if (type === "snapshot") this.#parts.push(...docs);
    else if (type === "live" && !resumed) this.#replace(reason);
    // Changes may come before the snapshot, for another tab that already has it.
    else if (type === "changes" && this.#isWhole && !this.isStale) this.#apply(changes);
    else return false;
    return type !== "snapshot";
  }

  settle() {
    this.documents = Object.freeze([...this.#held.values()]);
  }

  publish() {
    const news = { changes: this.#changes, reason: this.#reason };
    this.#changes = [];
    this.#reason = undefined;
    if (this.link) this.enter(this.link.state, this.link.error);
    this.notify(this.documents, news);
  }

  #replace(reason) {
    this.#held = new Map(this.#parts.map((doc) => [keyOf(doc._id), doc]));
    this.#parts = [];
    this.#isWhole = true;
    this.isStale = false;
    this.#changes = null; // a page that follows the changes begins again from the documents
    this.#reason = reason;
  }

  #apply(changes) {
    this.#changes?.push(...changes);
    // Only a window has an order, and then each upsert names its place.
    const order = changes.some((change) => "before" in change) ? [...this.#held.keys()] : null;
    for (const { op, id, doc, before } of changes) {
      const key = keyOf(id);
      if (op === "remove") this.#held.delete(key);
      else this.#held.set(key, doc);
      if (order) place(order, key, op === "remove" ? undefined : before);
    }
    if (order) this.#held = new Map(order.map((key) => [key, this.#held.get(key)]));
  }
}

/** Move a key in front of `before`. With null it goes to the end; with undefined it is removed. */
function place(order, key, before) {
  const from = order.indexOf(key);
  if (from >= 0) order.splice(from, 1);
  if (before === undefined) return;
  const to = before === null ? -1 : order.indexOf(keyOf(before));
  order.splice(to < 0 ? order.length : to, 0, key);
}

/** An `_id` may be an object: equal ones have equal texts. */
const keyOf = (id) => JSON.stringify(id);

/** A value as a query parameter. */
function written(value) {
  if (value === true) return "1";
  return typeof value === "object" ? JSON.stringify(value) : value;
}

function read(data) {
  try {
    return JSON.parse(data);
  } catch (cause) {
    throw new Problem("unreadable", "the server sent no JSON", { cause });
  }
}

function call(listener, ...news) {
  try {
    listener(...news);
  } catch (error) {
    report(error);
  }
}

function enter(target, state, error) {
  if (target.state === state && target.error === error) return;
  target.state = state;
  target.error = error;
  target.dispatchEvent?.(new Event("statechange"));
}
