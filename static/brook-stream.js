/**
 * The connection of `brook.js`: reads an event stream with `fetch`, resumes it for ever, and delivers no event
 * twice. A page that needs only the events of one stream can use it alone:
 *
 *     import { EventStream } from "./brook-stream.js";
 *
 *     const stream = new EventStream("/stream/creatures", {
 *       onEvent: ({ type, data, id }) => show(type, data),
 *       onState: () => report(stream.state, stream.why),
 *     });
 */

// The wait before the first retry, until the server names its own with `retry:`.
const RETRY_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

// Keep-alives without a byte after which a connection is dead: two may be late, hardly three.
const SILENT_KEEP_ALIVES = 2.5;

// A document of 16 MB has up to 6 characters a byte as JSON. A longer block is not an event of this server.
export const LONGEST_BLOCK = 2 ** 27;

// Client errors that pass, as every 5xx does: "Request Timeout", "Too Early", "Too Many Requests".
const PASSING = [408, 425, 429];

// Reasons to leave a connection that are not failures.
const RESTART = Symbol("restart");
const AWAY = Symbol("away");

/** An error of the server or of the connection. `code` is for programs, `message` for people. */
export class Problem extends Error {
  name = "Problem";

  /** `facts` become properties: the HTTP `status`, `at` for the part of a request that was refused. */
  constructor(code, message, facts) {
    super(message);
    Object.assign(this, facts, { code });
  }

  /** The problem of a response. The error page of a proxy is one, too, without a code of the server's. */
  static async from(response) {
    const { ok, status, statusText } = response;
    if (ok) return new Problem("not-a-stream", "the response is not an event stream");
    const told = parsed(await response.text());
    const retryAfter = 1_000 * Number(response.headers.get("Retry-After")) || 0;
    const message = told.detail ?? `the server answered ${status} ${statusText}`.trimEnd();
    const facts = { status, at: told.at, isTold: Boolean(told.code), retryAfter };
    return new Problem(told.code ?? `http-${status}`, message, facts);
  }
}

/** Reads the event stream format of the HTML standard, from bytes that are cut anywhere. */
export class EventParser {
  #decoder = new TextDecoder(); // removes the byte order mark
  #line = "";
  #afterReturn = false;
  #type = "";
  #data;
  #id;
  #onBlock;
  #onRetry;

  /** `onBlock` gets `{ type, data, id }`; without such a line in the block, `data` and `id` are undefined. */
  constructor(onBlock, onRetry) {
    this.#onBlock = onBlock;
    this.#onRetry = onRetry;
  }

  feed(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return;
    // The CR at the end of the last bytes has ended the line: its LF must not end another one.
    if (this.#afterReturn && text[0] === "\n") text = text.slice(1);
    this.#afterReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) this.#read(line);
    if (this.#line.length + (this.#data?.length ?? 0) > LONGEST_BLOCK) throw tooLarge();
  }

  #read(line) {
    if (!line) return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#onRetry?.(Number(value));
  }

  #dispatch() {
    const block = { type: this.#type || "message", data: this.#data, id: this.#id };
    this.#type = "";
    this.#data = this.#id = undefined;
    this.#onBlock(block);
  }
}

/**
 * One event stream, over as many connections as it takes.
 *
 * The states: "connecting", "live", "interrupted" (the server has lost MongoDB), "reconnecting", "ended".
 * `why` and `error` say why it is not live. Only a refusal or `close()` ends it.
 *
 * An event is delivered before its id becomes the position. Two events come from here: `reset` with the
 * reason "position-unknown" after a cut before any id, and with "invalid-id" if the server does not know it.
 */
export class EventStream {
  state = "connecting";
  error = null;

  /** The id of the last event or checkpoint; the next connection begins after it. */
  position = "";

  #request;
  #options;
  #since;
  #retry = RETRY_MS;
  #failures = 0;
  #hasBeenLive = false;
  #isTokenRefused = false;
  #isAway = false;
  #farewell = null;
  #tags = {};
  #isOpen = false;
  #heard = 0;
  #attempt = new AbortController();
  #ended = new AbortController();
  #rise = () => {};

  /**
   * `request` is a URL, or a function that returns `{ url, ...init }` for `{ position, since }`. It is called
   * for each connection. `since` is where the first one begins: an id, a time, or "now"; `position` is an
   * earlier position of such a stream.
   */
  constructor(request, options = {}) {
    this.#request = typeof request === "function" ? request : (from) => resumed(request, from);
    this.#options = { keepAliveSeconds: 15, credentials: "same-origin", ...options };
    this.#since = options.since ?? "";
    this.position = options.position ?? "";
    options.signal?.addEventListener("abort", () => this.close(), { signal: this.#ended.signal });
    this.#listen();
    this.#run();
  }

  get why() {
    return this.error?.message ?? "";
  }

  close() {
    this.#end(new Problem("closed", "closed by this page"));
  }

  /** Open a new connection from the position, with a new call of `request`. A wait for a retry goes on. */
  restart() {
    this.#attempt.abort(RESTART);
  }

  /** Do the same as `restart`, and skip the rest of a wait. */
  reconnect() {
    this.restart();
    this.#rise();
  }

  async #run() {
    await null; // the first handler is called after the constructor has returned
    if (this.#options.signal?.aborted) this.close();
    while (this.state !== "ended") {
      const { signal } = (this.#attempt = new AbortController());
      const watch = setInterval(() => this.#abortIfSilent(), this.#silence / 5);
      let wait = 0;
      try {
        await this.#connect(signal);
      } catch (error) {
        const reason = signal.aborted ? signal.reason : error;
        if (reason !== RESTART && reason !== AWAY && this.state !== "ended") wait = this.#failed(reason);
      }
      clearInterval(watch);
      this.#attempt.abort(); // a body that was not read to its end would hold its connection
      if ((wait || this.#isAway) && this.state !== "ended") await this.#sleep(wait);
    }
  }

  async #connect(signal) {
    const { token, fetch = globalThis.fetch, credentials } = this.#options;
    this.#heard = Date.now();
    this.#farewell = null;
    this.#tags = {};
    this.#isOpen = false;
    const bearer = await unlessAborted(signal, typeof token === "function" ? asked(token) : token);
    this.#options.onConnect?.();
    const { url, headers, ...init } = this.#request({ position: this.position, since: this.#since });
    const authorization = bearer ? { Authorization: `Bearer ${bearer}` } : {};
    const accept = { Accept: "text/event-stream" };
    const all = { ...accept, ...headers, ...authorization };
    const response = await fetch(url, { cache: "no-store", credentials, ...init, headers: all, signal });
    const type = response.headers.get("Content-Type") ?? "";
    if (!response.ok || !type.startsWith("text/event-stream")) throw await Problem.from(response);
    await this.#read(response.body.getReader(), signal);
  }

  async #read(reader, signal) {
    const parser = new EventParser(
      // A handler may have closed or restarted the stream: the rest of the bytes will come again.
      (block) => signal.aborted || this.#receive(block),
      (ms) => (this.#retry = ms),
    );
    for (;;) {
      const { value, done } = await reader.read();
      if (signal.aborted) throw signal.reason;
      if (done) throw this.#farewell ?? new Problem("cut", "connection lost");
      this.#heard = Date.now();
      parser.feed(value);
    }
  }

  #receive({ type, data, id }) {
    if (type === "problem" || type === "bye") this.#turnedAway(type, parsed(data));
    else if (!this.#farewell && !this.#isOpen) this.#opened();
    if (type === "opened") this.#tags = parsed(data);
    if (type === "feed") this.#enter(parsed(data).state === "interrupted" ? "interrupted" : "live");
    if (data !== undefined) this.#deliver({ type, data, id });
    if (id !== undefined) this.#move(id);
  }

  #opened() {
    const isLost = this.#hasBeenLive && !this.position && (!this.#since || this.#since === "now");
    this.#hasBeenLive = this.#isOpen = true;
    this.#isTokenRefused = false;
    this.#failures = 0;
    this.#enter("live");
    if (isLost) this.#reset("position-unknown");
  }

  /** The server ends the connection. The same block has set the time after which to come back. */
  #turnedAway(type, { code, detail, reason, status, of }) {
    const [name] = Object.entries(this.#tags).find(([, tag]) => tag === of) ?? [];
    const facts = { status, at: name && `subscriptions.${name}`, isTold: Boolean(code) };
    this.#farewell =
      type === "bye"
        ? new Problem(reason, `the server closed the connection: ${reason}`)
        : new Problem(code ?? type, detail ?? "the server cannot stream now", facts);
    this.#enter(this.#away(), this.#farewell);
  }

  #deliver(event) {
    this.#call(() => this.#options.onEvent?.(event));
  }

  #move(id) {
    const { position } = this;
    this.position = id;
    this.#call(() => this.#options.onPosition?.(id), () => (this.position = position));
    this.#since = "";
  }

  /** Call a handler. If it throws, the event counts as not delivered, and will come again. */
  #call(handler, undo) {
    try {
      handler();
    } catch (error) {
      undo?.();
      report(error);
      throw error;
    }
  }

  #reset(reason, since) {
    this.#deliver({ type: "reset", data: JSON.stringify({ reason, since }) });
    this.#move("");
  }

  /** Returns the milliseconds to wait before the next connection. */
  #failed(error) {
    const problem = error instanceof Problem ? error : this.#lost(error);
    if (problem.code === "invalid-id" && this.position) {
      this.#reset("invalid-id", this.position);
      return 0;
    }
    if (problem.status === 401 && !this.#isTokenRefused && typeof this.#options.token === "function") {
      this.#isTokenRefused = true; // it may just have expired: the next connection asks for a fresh one
      return 0;
    }
    // A problem that the stream has told came with the time to come back, whatever its status. But the other queries
    // of a bundle need not wait for the one that is refused.
    const isTold = problem === this.#farewell;
    if ((!isTold || problem.at) && this.#isFinal(problem)) {
      if (this.#options.onRefused?.(problem)) return 0;
      if (!isTold) {
        this.#end(problem);
        return 0;
      }
    }
    this.#enter(this.#away(), problem);
    if (isTold) return Math.max(this.#retry, 1);
    const longest = Math.min(LONGEST_WAIT_MS, this.#retry * 2 ** this.#failures++);
    return Math.max(1, problem.retryAfter ?? 0, Math.random() * longest);
  }

  #lost(cause) {
    if (this.#isOpen) return new Problem("cut", "connection lost", { cause });
    return new Problem("unreachable", "the server is unreachable", { cause });
  }

  /** A 4xx without a code of the server's may come from a proxy, while the server is being replaced. */
  #isFinal({ status, isTold, isFinal }) {
    const isRefused = status >= 400 && status < 500 && !PASSING.includes(status);
    return isFinal || (isRefused && (isTold || !this.#hasBeenLive));
  }

  #listen() {
    const { signal } = this.#ended;
    const on = (target, name, handler) => target?.addEventListener?.(name, handler, { signal });
    on(globalThis, "online", () => this.reconnect());
    on(globalThis, "pageshow", () => this.#wake());
    on(globalThis, "pagehide", () => this.#leave());
    on(globalThis.document, "visibilitychange", () => document.hidden || this.#wake());
  }

  /** A browser may keep a page that was left, with its connections: six of them would block the site. */
  #leave() {
    this.#isAway = true;
    this.#enter(this.#away(), new Problem("away", "disconnected when the page was left"));
    this.#attempt.abort(AWAY);
  }

  #wake() {
    this.#isAway = false;
    this.#abortIfSilent(); // timers stand still while a computer sleeps
    this.#rise();
  }

  #abortIfSilent() {
    if (Date.now() - this.#heard < this.#silence) return;
    this.#attempt.abort(new Problem("silent", "the connection is silent"));
  }

  get #silence() {
    return SILENT_KEEP_ALIVES * 1_000 * this.#options.keepAliveSeconds;
  }

  async #sleep(ms) {
    let timer;
    await new Promise((resolve) => {
      this.#rise = resolve;
      if (!this.#isAway) timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }

  #away() {
    return this.#hasBeenLive ? "reconnecting" : "connecting";
  }

  #end(problem) {
    this.#enter("ended", problem);
    this.#ended.abort();
    this.#attempt.abort();
    this.#rise();
  }

  #enter(state, error = null) {
    const isSame = state === this.state && error?.message === this.error?.message;
    if (isSame || this.state === "ended") return;
    this.state = state;
    this.error = error;
    try {
      this.#options.onState?.();
    } catch (failure) {
      report(failure); // the stream goes on
    }
  }
}

export const tooLarge = () => new Problem("too-large", "more arrived at once than fits", { isFinal: true });

/** Show an error of the page's own code where the page's other errors are shown. */
export const report = globalThis.reportError ?? ((error) => console.error(error));

/**
 * The cluster time up to which a position has everything; undefined for another string. For the id of an event,
 * with its check, it is the time before the event's: other events of a transaction may share that.
 */
export function timeOf(position) {
  const [, seconds, increment, check] = /^t(\d+)\.(\d+)(-.*)?$/.exec(position) ?? [];
  return seconds && (BigInt(seconds) << 32n) + BigInt(increment) - (check ? 1n : 0n);
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** The position goes into the header: a URL would also end up in the logs of proxies. */
function resumed(address, { position, since }) {
  if (position) return { url: address, headers: { "Last-Event-ID": position } };
  if (!since) return { url: address };
  const url = new URL(address, globalThis.document?.baseURI);
  url.searchParams.set("since", since);
  return { url };
}

async function asked(token) {
  try {
    return await token();
  } catch (error) {
    throw new Problem("no-token", `there is no token: ${error?.message ?? error}`, { cause: error });
  }
}

function unlessAborted(signal, promise) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    Promise.resolve(promise).then(resolve, reject);
  });
}
