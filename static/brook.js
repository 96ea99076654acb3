/**
 * A stream of Babbling Brook, followed for as long as the page is open.
 *
 *     import { Brook } from "./brook.js";
 *
 *     const brook = new Brook("stream");
 *     brook.addEventListener("message", (event) => show(JSON.parse(event.data)));
 *     brook.addEventListener("delete", (event) => remove(JSON.parse(event.data)._id));
 *     brook.addEventListener("reset", () => loadEverythingAgain());
 *     brook.addEventListener("statechange", () => report(brook.state, brook.why));
 *
 * The work is EventSource's: it comes back by itself after a cut, from the last event id. What it
 * does not survive is an answer other than 200, such as a proxy's 502 while the server restarts.
 * Then this asks again, with pauses that grow, and resumes from the last id that it has seen.
 */

// Every event of the protocol, whatever the stream's format. EventSource has no "any event".
const NAMES = ["message", "insert", "update", "replace", "delete", "reset", "problem", "bye"];

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

// "Request Timeout" and "Too Many Requests" pass, as every 5xx does; any other 4xx stays as it is.
const PASSING = [408, 429];

/**
 * Dispatches the stream's events as the MessageEvents that they are, and `statechange`.
 *
 * A `reset` says that what the page holds can no longer be trusted. Two of them begin here: reason
 * `invalid-id` when the server does not know our last id, and `position-unknown` when the stream
 * was refused before any id was seen. Changes made since then may be missing.
 */
export class Brook extends EventTarget {
  /** "connecting", "live", "reconnecting", or "ended": the last is for good. */
  state = "connecting";

  /** Why it is not live, in words; empty when there is nothing to say. */
  why = "";

  /** The id of the last event. Checkpoints, which fire nothing, show in the next event's. */
  lastId = "";

  #url;
  #credentials;
  #source = null;
  #timer = 0;
  // None before the first question: somebody waits to hear why there is no stream, and no crowd does.
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

  /** Stop for good. */
  close() {
    this.#end("closed by this page");
  }

  #connect() {
    const source = new EventSource(this.#address(), { withCredentials: this.#credentials });
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.#askAgain("the server refused the stream");
      else if (this.state === "live") this.#enter("reconnecting", "the connection was cut");
    };
    for (const name of NAMES) source.addEventListener(name, (event) => this.#receive(event));
  }

  /** Browsers keep a page that was left, and its connections: six of those, and the site stands still. */
  #leave() {
    this.#left = true;
    this.#missed ||= this.#isLost();
    this.#hangUp();
    this.#enter(this.#away(), "the page was left");
  }

  #return() {
    if (!this.#left) return;
    this.#left = false;
    this.#connect();
  }

  /** A new EventSource cannot send a Last-Event-ID, so the position goes into the address. */
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
    if (event.type === "bye") this.#enter("reconnecting", `the server said goodbye: ${parsed(event.data).reason}`);
    const { type, data, origin, lastEventId } = event;
    this.dispatchEvent(new MessageEvent(type, { data, origin, lastEventId }));
  }

  /** The server cannot stream just now: what was opened was no stream after all. */
  #turnedAway(why) {
    this.#streams -= 1;
    this.#missed = this.#isLost();
    this.#enter(this.#away(), why);
  }

  /** EventSource has given up, and does not tell why: ask, after a pause, in a way that does. */
  #askAgain(why) {
    this.#missed ||= this.#isLost();
    this.#enter(this.#away(), why);
    // Without the randomness, everybody would come back in the same instant.
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
      if (this.#isWaiting()) this.#askAgain("the server cannot be reached");
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
      this.#askAgain(ok ? "what answers here is no event stream" : why);
    }
  }

  #isWaiting() {
    return this.state !== "ended" && !this.#left;
  }

  /** There was a stream, and nothing to resume it from. */
  #isLost() {
    const since = this.#url.searchParams.get("since") ?? "now";
    return this.#streams > 0 && !this.lastId && since === "now";
  }

  #reset(reason, since) {
    this.#forget();
    this.dispatchEvent(new MessageEvent("reset", { data: JSON.stringify({ reason, since }) }));
  }

  /** No position from before a reset may be asked for again. */
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

  /** Also a question that has no answer yet: it holds a connection, and a browser has six for a site. */
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
