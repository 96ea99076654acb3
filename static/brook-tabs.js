/**
 * One event stream for all tabs of an origin. `brook.js` loads this where the browser has Web Locks and
 * BroadcastChannel.
 *
 * The tab that holds the lock leads: it has the connection, asks the server for the queries of all tabs, and
 * broadcasts the events. Its end, even by a crash, gives the lock to another tab, which goes on from its own
 * position, because all tabs have received the same events. Each tab holds a second lock while it lives, so that
 * the leader notices its end.
 */

import { EventStream, Problem, report, timeOf } from "./brook-stream.js";

// As many as the server takes in one request. A tab that would exceed them opens a connection of its own.
const MAX_SUBSCRIPTIONS = 32;

// Time for which a new leader waits for the queries of the other tabs. A later tab costs one more request.
const GATHER_MS = 50;

// Events that may be delivered twice. A change may not.
const IDEMPOTENT = ["snapshot", "live", "changes", "count", "reset"];

// Events for the connection, not for a query.
const INNER = ["problem", "bye", "feed", "commit"];

/** Has the interface of an EventStream, over the connection of the leading tab. */
export class TabStream {
  state = "connecting";
  error = null;
  position = "";

  #request;
  #options;
  #id = crypto.randomUUID();
  #name;
  #channel = null;
  #leader = null;
  #alone = null;
  #group = [];
  #tags = new Set();
  #last = { from: "", number: 0 };
  #isPresent = false;
  #isOpen = false;
  #hasBeenLive = false;
  #present = new AbortController();
  #ended = new AbortController();

  /** As for EventStream. `request` has no side effect, and its body is the JSON of a bundle. */
  constructor(request, options) {
    this.#request = request;
    this.#options = options;
    const { url } = request({ position: "", since: "" });
    this.#name = `brook ${options.share} ${options.credentials ?? ""} ${url}`;
    const { signal } = this.#ended;
    // A page that the browser keeps in its cache must not keep the connection of the others.
    globalThis.addEventListener?.("pagehide", () => this.#leave(), { signal });
    globalThis.addEventListener?.("pageshow", ({ persisted }) => persisted && this.#join(), { signal });
    this.#join();
  }

  restart() {
    if (this.#alone) this.#alone.restart();
    else if (this.#isPresent) this.#want();
  }

  reconnect() {
    if (this.#alone) this.#alone.reconnect();
    else this.#say({ kind: "reconnect" });
  }

  close() {
    this.#alone?.close();
    this.#enter("ended", new Problem("closed", "closed by this page"));
  }

  #join() {
    this.#present = new AbortController();
    this.#isOpen = false;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    // The leader waits for the lock of this tab, so it is held before the leader is told of the tab.
    this.#hold(lockOf(this.#name, this.#id), () => {
      this.#isPresent = true;
      this.#want();
      this.#hold(this.#name, () => this.#lead());
    });
  }

  /** Hold a lock, as soon as it is free, until this tab leaves. */
  #hold(lock, onGranted) {
    const { signal } = this.#present;
    locked(lock, signal, () => {
      onGranted();
      return new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    });
  }

  #leave() {
    this.#leader?.close();
    this.#leader = null;
    this.#present.abort();
    this.#isPresent = false;
    this.#channel?.close();
    this.#channel = null;
  }

  #lead() {
    const say = (message) => this.#say(message);
    const position = () => this.position;
    const [id, name, request] = [this.#id, this.#name, this.#request];
    this.#leader = new Leader({ id, name, request, position, say }, this.#options);
    this.#say({ kind: "lead" });
  }

  #wanted() {
    return JSON.parse(this.#request({ position: this.position, since: "" }).body).subscriptions;
  }

  /** Send the leader the queries of this tab. `isLost`: the tab has missed events, and has to resume. */
  #want(isLost = false) {
    this.#say({ kind: "want", tab: this.#id, subscriptions: this.#wanted(), position: this.position, isLost });
  }

  /** Send a message to the other tabs, and to this one. */
  #say(message) {
    this.#channel?.postMessage(message);
    this.#hear(message);
  }

  #hear(message) {
    const { kind, to } = message;
    if (!this.#channel) return;
    this.#leader?.hear(message);
    if (to && to !== this.#id) return;
    if (message.number) this.#count(message);
    if (kind === "lead") this.#want();
    else if (kind === "state") this.#enter(message.state, message.error && revived(message.error));
    else if (kind === "refused") this.#refused(message.key, revived(message.error));
    else if (kind === "full") this.#goAlone();
    else if (kind === "opened") this.#opened(message);
    else if (kind === "event" && this.#isMine(message.event)) this.#group.push(message.event);
    else if (kind === "position" && this.#isOpen) this.#move(message.position);
  }

  /** A leader numbers its messages: a tab that was frozen may have missed some. */
  #count({ from, number }) {
    const isMissing = from === this.#last.from && number !== this.#last.number + 1;
    this.#last = { from, number };
    if (isMissing) this.#miss();
  }

  #miss() {
    this.#isOpen = false;
    this.#want(true);
  }

  /** The leader has a new connection. Events that no id has committed will come again. */
  #opened({ tags, since }) {
    if (timeOf(this.position) < timeOf(since)) return this.#miss();
    this.#isOpen = true;
    this.#group = [];
    const own = {};
    this.#tags.clear();
    for (const [name, wanted] of Object.entries(this.#wanted())) {
      const tag = tags[keyOf(wanted)];
      if (!tag) continue;
      own[name] = tag;
      this.#tags.add(tag);
    }
    this.#options.onConnect();
    this.#options.onEvent({ type: "opened", data: JSON.stringify(own) });
  }

  /** True for an event of this tab's queries. Data begins with the tag, so other tabs' data is not parsed. */
  #isMine({ data }) {
    const [, tag] = /^\{"of":"([^"]*)"/.exec(data) ?? [];
    return this.#isOpen && (tag === undefined || this.#tags.has(tag));
  }

  /** The leader may have gone back, for a tab that was behind this one. */
  #move(position) {
    const group = this.#group;
    this.#group = [];
    const [now, next] = [timeOf(this.position), timeOf(position)];
    if (next < now) return;
    for (const event of group) {
      if (next !== now || IDEMPOTENT.includes(event.type)) this.#options.onEvent(event);
    }
    this.position = position;
    this.#options.onPosition(position);
  }

  #refused(key, problem) {
    const [name] = Object.entries(this.#wanted()).find(([, wanted]) => keyOf(wanted) === key) ?? [];
    if (!name) return;
    problem.at = `subscriptions.${name}`;
    if (!this.#options.onRefused(problem)) this.#enter("ended", problem);
  }

  #goAlone() {
    this.#leave();
    this.#alone = new EventStream(this.#request, {
      ...this.#options,
      position: this.position,
      onPosition: (position) => {
        this.position = position;
        this.#options.onPosition(position);
      },
      onState: () => this.#enter(this.#alone.state, this.#alone.error),
    });
  }

  #enter(state, error) {
    if (this.state === "ended") return;
    this.#hasBeenLive ||= state === "live";
    // A new leader reports its first connection as "connecting".
    this.state = state === "connecting" && this.#hasBeenLive ? "reconnecting" : state;
    this.error = error;
    if (state === "ended") {
      this.#leave();
      this.#ended.abort();
    }
    this.#options.onState();
  }
}

/** The work of the leading tab for all of them. */
class Leader {
  #id;
  #name;
  #request;
  #position;
  #at = "";
  #say;
  #options;
  #wants = new Map();
  #asked = [];
  #keys = new Map();
  #fresh = new Set();
  #back = "";
  #backAsked = "";
  #stream = null;
  #number = 0;
  #timer = null;
  #ended = new AbortController();

  constructor({ id, name, request, position, say }, options) {
    this.#id = id;
    this.#name = name;
    this.#request = request;
    this.#position = position;
    this.#say = say;
    this.#options = options;
  }

  close() {
    clearTimeout(this.#timer);
    this.#ended.abort();
    this.#stream?.close();
  }

  hear({ kind, tab, ...want }) {
    if (kind === "reconnect") this.#stream?.reconnect();
    if (kind === "want") this.#want(tab, want);
  }

  #want(tab, { subscriptions, position, isLost }) {
    const before = this.#wants.get(tab);
    const wanted = new Map(Object.values(subscriptions).map((one) => [keyOf(one), one]));
    // A tab that has received every message is not behind: some may still be on their way to it.
    const mayBeBehind = !before || isLost;
    const isBehind = mayBeBehind && timeOf(position) < timeOf(this.#back || this.#at);
    this.#wants.set(tab, { wanted, position, isAsked: false });
    if (this.#merged().length > MAX_SUBSCRIPTIONS || (isBehind && this.#hasChanges(tab))) {
      this.#wants.delete(tab);
      return this.#say({ kind: "full", to: tab });
    }
    if (!before) this.#welcome(tab);
    if (isBehind) this.#back = position;
    const isMore = [...wanted].some(([key, { snapshot }]) => snapshot || !before?.wanted.has(key));
    if (isLost || isBehind || isMore || this.#isOther()) this.#change();
    else this.#wants.get(tab).isAsked = before.isAsked;
  }

  /** True if another tab has a query of changes: it must not get again the changes that this tab has missed. */
  #hasChanges(tab) {
    const others = [...this.#wants].filter(([other]) => other !== tab);
    return others.some(([, { wanted }]) => [...wanted.values()].some(({ mode }) => !mode));
  }

  #welcome(tab) {
    const gone = () => {
      this.#wants.delete(tab);
      if (this.#isOther()) this.#change();
    };
    locked(lockOf(this.#name, tab), this.#ended.signal, gone);
    if (this.#stream) this.#say({ ...this.#state(), to: tab });
  }

  /** True if the queries of all tabs are not those that the server was asked for. */
  #isOther() {
    const asked = (merged) => JSON.stringify(merged.map(([key, { progress }]) => [key, progress]));
    return asked(this.#merged()) !== asked(this.#asked);
  }

  #change() {
    if (this.#ended.signal.aborted) return;
    this.#timer ??= setTimeout(
      () => {
        this.#timer = null;
        if (this.#stream) this.#stream.restart();
        else this.#stream = this.#open();
      },
      this.#stream ? 0 : GATHER_MS,
    );
  }

  /** Resume from the oldest position of all tabs: some may not have received the last leader's messages yet. */
  #open() {
    const others = [...this.#wants].filter(([tab]) => tab !== this.#id).map(([, { position }]) => position);
    const known = [this.#position(), ...others].filter(Boolean);
    const [first = ""] = known.sort((one, other) => (timeOf(one) < timeOf(other) ? -1 : 1));
    this.#at = first;
    return new EventStream(() => this.#ask(), {
      ...this.#options,
      position: first,
      onConnect: undefined,
      onEvent: (event) => this.#tell(event),
      onPosition: (position) => this.#move(position),
      onState: () => this.#ended.signal.aborted || this.#broadcast(this.#state()),
      onRefused: (problem) => this.#refuse(problem),
    });
  }

  /** The queries of all tabs: each once, with its key, in an order that is always the same. */
  #merged() {
    const merged = new Map();
    for (const { wanted } of this.#wants.values()) {
      for (const [key, one] of wanted) merged.set(key, { ...merged.get(key), ...one });
    }
    return [...merged].sort(([one], [other]) => (one < other ? -1 : 1));
  }

  #ask() {
    this.#asked = this.#merged();
    this.#fresh.clear();
    for (const want of this.#wants.values()) want.isAsked = true;
    this.#backAsked = this.#back;
    const since = this.#back || this.#at || undefined;
    const begun = ([, wanted]) => (since || wanted.mode !== "live" ? wanted : { ...wanted, snapshot: true });
    const subscriptions = Object.fromEntries(this.#asked.map((one, number) => [`q${number}`, begun(one)]));
    const { url, method, headers } = this.#request({ position: "", since: "" });
    return { url, method, headers, body: JSON.stringify({ since, subscriptions }) };
  }

  #tell({ type, data }) {
    if (type === "opened") {
      const tags = Object.entries(JSON.parse(data)).map(([name, tag]) => [this.#keyNamed(name), tag]);
      this.#keys = new Map(tags.map(([key, tag]) => [tag, key]));
      const since = this.#back || this.#at;
      this.#broadcast({ kind: "opened", tags: Object.fromEntries(tags), since });
    } else if (!INNER.includes(type)) {
      if (type === "live") this.#fresh.add(this.#keys.get(JSON.parse(data).of));
      this.#broadcast({ kind: "event", event: { type, data } });
    }
  }

  #keyNamed(name) {
    return this.#asked[name.slice(1)]?.[0];
  }

  #move(position) {
    this.#at = position;
    // Unless this is still from the old connection.
    if (this.#back === this.#backAsked) this.#back = this.#backAsked = "";
    for (const { wanted, isAsked } of this.#wants.values()) {
      for (const key of isAsked ? this.#fresh : []) delete wanted.get(key)?.snapshot;
    }
    this.#fresh.clear();
    this.#broadcast({ kind: "position", position });
  }

  #refuse(problem) {
    const [, name] = /^subscriptions\.(q\d+)/.exec(problem.at) ?? [];
    const key = name && this.#keyNamed(name);
    if (!key) return false;
    for (const { wanted } of this.#wants.values()) wanted.delete(key);
    this.#broadcast({ kind: "refused", key, error: plain(problem) });
    return this.#merged().length > 0;
  }

  #state() {
    const { state, error } = this.#stream;
    return { kind: "state", state, error: error && plain(error) };
  }

  #broadcast(message) {
    this.#number += 1;
    this.#say({ ...message, from: this.#id, number: this.#number });
  }
}

const lockOf = (name, tab) => `${name} ${tab}`;

/** Equal subscriptions of several tabs are one. */
const keyOf = ({ snapshot, progress, ...wanted }) => JSON.stringify(wanted);

/** An error as a message can carry it. */
const plain = ({ code, message, status, at }) => ({ code, message, status, at });

const revived = ({ code, message, ...facts }) => new Problem(code, message, facts);

function locked(name, signal, onGranted) {
  const aborted = ({ name: kind }) => kind === "AbortError";
  navigator.locks.request(name, { signal }, onGranted).catch((error) => aborted(error) || report(error));
}
