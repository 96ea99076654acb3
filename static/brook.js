/**
 * A client for a stream of Babbling Brook. It follows the stream until the page closes.
 *
 *     import { Brook } from "./brook.js";
 *
 *     const brook = new Brook("stream");
 *     brook.addEventListener("message", (event) => show(JSON.parse(event.data)));
 *     brook.addEventListener("delete", (event) => remove(JSON.parse(event.data)._id));
 *     brook.addEventListener("reset", () => reloadEverything());
 *     brook.addEventListener("statechange", () => report(brook.state, brook.why));
 *
 * EventSource does most of the work: it reconnects after a lost connection, from the last event id.
 * But it gives up after any response other than 200, such as a proxy's 502 while the server restarts.
 * This client then retries with exponential backoff, and resumes from the last id that it received.
 */

// All event names of the protocol, in every format. EventSource cannot listen for any event.
const NAMES = ["message", "insert", "update", "replace", "delete", "reset", "problem", "bye", "feed"];

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

// Client errors that are temporary, as every 5xx is: "Request Timeout" and "Too Many Requests".
const PASSING = [408, 429];

/**
 * Dispatches the stream's events as MessageEvents, and `statechange`.
 *
 * A `reset` means that the data on the page may be out of date. The client itself dispatches two of
 * them: with the reason `invalid-id` if the server does not know the last id, and with
 * `position-unknown` if the stream was refused before the client received an id. Both mean that
 * changes may be missing.
 */
export class Brook extends EventTarget {
  /** "connecting", "live", "reconnecting", or "ended". The client leaves any state but "ended". */
  state = "connecting";

  /** The reason for the state, for people to read; empty if there is none. */
  why = "";

  /** The id of the last event. A checkpoint fires no event; its id appears with the next one. */
  lastId = "";

  #url;
  #credentials;
  #source = null;
  #timer = 0;
  // No pause before the first probe: a person waits for the reason, and no crowd of clients does.
  #pause = 0;
  #streams = 0;
  #missed = false;
  #left = false;
  #probing = null;
  #listening = new AbortController();

  /** `url` is relative to the page. */
  constructor(url, { withCredentials = false } = {}) {
    super();
    this.#url = new URL(url, document.baseURI);
    this.#credentials = withCredentials;
    const { signal } = this.#listening;
    addEventListener("pagehide", () => this.#leave(), { signal });
    addEventListener("pageshow", () => this.#return(), { signal });
    this.#connect();
  }

  /** Close the stream and never reopen it. */
  close() {
    this.#end("closed by this page");
  }

  #connect() {
    const source = new EventSource(this.#address(), { withCredentials: this.#credentials });
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.#askAgain("the server refused the stream");
      else if (this.state === "live") this.#enter("reconnecting", "connection lost");
    };
    for (const name of NAMES) source.addEventListener(name, (event) => this.#receive(event));
  }

  /** A browser may cache a page with its connections. Six of them would block all requests to the site. */
  #leave() {
    this.#left = true;
    this.#missed ||= this.#isLost();
    this.#hangUp();
    this.#enter(this.#away(), "disconnected when the page was left");
  }

  #return() {
    if (!this.#left) return;
    this.#left = false;
    this.#connect();
  }

  /** A new EventSource cannot send a Last-Event-ID, so the URL carries the position. */
  #address() {
    const url = new URL(this.#url);
    if (this.lastId) url.searchParams.set("since", this.lastId);
    return url;
  }

  #opened() {
    this.#streams += 1;
    this.#pause = FIRST_PAUSE_MS;
    this.#enter("live");
    if (this.#missed) this.#reset("position-unknown");
  }

  #receive(event) {
    if (event.type === "reset") this.#forget();
    if (event.lastEventId) this.lastId = event.lastEventId;
    if (event.type === "problem") this.#turnedAway(parsed(event.data).detail);
    if (event.type === "bye") this.#enter("reconnecting", `the server closed the connection: ${parsed(event.data).reason}`);
    const { type, data, origin, lastEventId } = event;
    this.dispatchEvent(new MessageEvent(type, { data, origin, lastEventId }));
  }

  /** The server cannot stream now: the response was only a `problem`, so it does not count as a stream. */
  #turnedAway(why) {
    this.#streams -= 1;
    this.#missed = this.#isLost();
    this.#enter(this.#away(), why);
  }

  /** EventSource has given up without a reason. Probe with fetch after a pause to learn it. */
  #askAgain(why) {
    this.#missed ||= this.#isLost();
    this.#enter(this.#away(), why);
    // Without the random factor, all clients would return at once.
    this.#timer = setTimeout(() => this.#probe(), this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(Math.max(2 * this.#pause, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
  }

  async #probe() {
    const abort = new AbortController();
    this.#probing = abort;
    try {
      const response = await fetch(this.#address(), {
        cache: "no-store",
        credentials: this.#credentials ? "include" : "same-origin",
        signal: abort.signal,
      });
      const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
      const problem = isStream ? {} : parsed(await response.text());
      if (this.#isWaiting()) this.#answered(response, isStream, problem);
    } catch {
      if (this.#isWaiting()) this.#askAgain("the server is unreachable");
    } finally {
      abort.abort();
    }
  }

  #answered({ ok, status, statusText }, isStream, { code, detail }) {
    const why = detail ?? `the server answered ${status} ${statusText}`.trimEnd();
    if (ok && isStream) {
      this.#connect();
    } else if (code === "invalid-id" && this.lastId) {
      this.#reset("invalid-id", this.lastId);
      this.#connect();
    } else if (status >= 400 && status < 500 && !PASSING.includes(status)) {
      this.#end(why);
    } else {
      this.#askAgain(ok ? "the response is not an event stream" : why);
    }
  }

  #isWaiting() {
    return this.state !== "ended" && !this.#left;
  }

  /** True if there was a stream, but no position to resume it from. */
  #isLost() {
    const since = this.#url.searchParams.get("since") ?? "now";
    return this.#streams > 0 && !this.lastId && since === "now";
  }

  #reset(reason, since) {
    this.#forget();
    this.dispatchEvent(new MessageEvent("reset", { data: JSON.stringify({ reason, since }) }));
  }

  /** Drop every position from before a reset: the client must not resume from it. */
  #forget() {
    this.lastId = "";
    this.#missed = false;
    this.#url.searchParams.delete("since");
  }

  #end(why) {
    this.#listening.abort();
    this.#hangUp();
    this.#enter("ended", why);
  }

  /** Also aborts a pending probe: it holds one of the six connections that a browser has for a site. */
  #hangUp() {
    clearTimeout(this.#timer);
    this.#probing?.abort();
    this.#source.close();
  }

  #away() {
    return this.#streams > 0 ? "reconnecting" : "connecting";
  }

  #enter(state, why = "") {
    if (this.state === "ended" || (state === this.state && why === this.why)) return;
    this.state = state;
    this.why = why;
    this.dispatchEvent(new Event("statechange"));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
