// A server with documents of its own, that speaks live result sets, changes and bundles as PROTOCOL.md has them:
// for tests that write, cut and compare. A filter here is equality. As a program, it serves the client's files
// too, and does what its standard input says, a line of JSON each: see `Program` below.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { tagOf } from "./fake_server.mjs";

// Small, so that a snapshot has several parts.
const PART_DOCUMENTS = 3;

const keyOf = (id) => JSON.stringify(id);
const idOf = (time) => `t${time}.0`;
const timeOf = (position) => Number(/^t(\d+)\.0/.exec(position)[1]);

/** Collections, and the log of their batches. The time is the number of batches. */
export class Pond {
  time = 1;
  log = [];
  lost = 0;
  #collections = new Map();

  /** Write a batch, which is one time, as a transaction is: `[stream, _id, document or null]` each. */
  write(...writes) {
    this.time += 1;
    const batch = writes.map(([stream, id, doc]) => {
      const collection = this.#collection(stream);
      const before = collection.get(keyOf(id)) ?? null;
      const after = doc && { _id: id, ...doc };
      if (after) collection.set(keyOf(id), after);
      else collection.delete(keyOf(id));
      return { stream, id, before, after };
    });
    this.log.push({ time: this.time, batch });
    return this.log.at(-1);
  }

  /** The log loses what is older. */
  forget() {
    this.lost = this.time;
    this.log = [];
  }

  find({ stream, filter = {}, sort, limit }) {
    const found = [...this.#collection(stream).values()].filter((doc) => matches(doc, filter));
    return sort ? found.sort((one, other) => compare(one, other, sort)).slice(0, limit) : found;
  }

  #collection(stream) {
    if (!this.#collections.has(stream)) this.#collections.set(stream, new Map());
    return this.#collections.get(stream);
  }
}

export function matches(doc, filter) {
  return Boolean(doc) && Object.entries(filter).every(([name, value]) => doc[name] === value);
}

function compare(one, other, sort) {
  for (const [name, direction] of [...Object.entries(sort), ["_id", 1]]) {
    if (one[name] !== other[name]) return one[name] < other[name] ? -direction : direction;
  }
  return 0;
}

/** The changes that lead from one window to another, in the order in which they are applied. */
export function windowChanges(old, now) {
  const keys = new Set(now.map(({ _id }) => keyOf(_id)));
  const changes = old.filter(({ _id }) => !keys.has(keyOf(_id))).map(({ _id }) => ({ op: "remove", why: "leave", id: _id }));
  let held = old.filter(({ _id }) => keys.has(keyOf(_id)));
  for (let at = now.length - 1; at >= 0; at -= 1) {
    const [doc, next] = [now[at], now[at + 1]];
    const was = held.findIndex(({ _id }) => keyOf(_id) === keyOf(doc._id));
    const isInPlace = was >= 0 && held[was + 1]?._id === next?._id;
    if (isInPlace && held[was] === doc) continue;
    changes.push({ op: "upsert", why: was < 0 ? "enter" : "update", id: doc._id, doc, before: next ? next._id : null });
    held = held.filter(({ _id }) => keyOf(_id) !== keyOf(doc._id));
    const place = next ? held.findIndex(({ _id }) => keyOf(_id) === keyOf(next._id)) : held.length;
    held.splice(place, 0, doc);
  }
  return changes;
}

/** One subscription of one connection: the events that a batch brings to it, without ids. */
class Subscription {
  constructor(pond, { snapshot, since, progress, ...wanted }, tag) {
    this.pond = pond;
    this.wanted = wanted;
    this.tag = tag;
    this.progress = progress;
    this.window = [];
  }

  begin(since, wantsSnapshot) {
    const isLost = since !== undefined && since < this.pond.lost;
    const { mode, sort } = this.wanted;
    if (mode === "count") return [["count", { count: this.pond.find(this.wanted).length }]];
    const missed = isLost || since === undefined ? [] : this.pond.log.filter(({ time }) => time > since);
    if (mode !== "live") return isLost ? [["reset", { reason: "history-lost" }]] : missed.flatMap((one) => this.#envelopes(one));
    this.window = this.pond.find(this.wanted);
    if (wantsSnapshot || since === undefined || isLost || (sort && missed.length)) return this.#snapshot(isLost);
    const changes = missed.flatMap(({ batch }) => this.#touched(batch));
    const live = ["live", { count: this.window.length, resumed: true }];
    return changes.length ? [["changes", { changes }], live] : [live];
  }

  next(logged) {
    const { mode, sort } = this.wanted;
    if (mode === undefined) return this.#envelopes(logged);
    const before = this.window;
    this.window = this.pond.find(this.wanted);
    if (mode === "count") return before.length === this.window.length ? [] : [["count", { count: this.window.length }]];
    const changes = sort ? windowChanges(before, this.window) : this.#touched(logged.batch);
    return changes.length ? [["changes", { changes }]] : [];
  }

  /** A document that has changed several times is there once, as it is now. */
  #touched(batch) {
    const touched = new Map(batch.filter(({ stream }) => stream === this.wanted.stream).map((one) => [keyOf(one.id), one.id]));
    const now = new Map(this.window.map((doc) => [keyOf(doc._id), doc]));
    return [...touched].map(([key, id]) =>
      now.has(key) ? { op: "upsert", why: "update", id, doc: now.get(key) } : { op: "remove", why: "leave", id },
    );
  }

  #snapshot(isLost) {
    const parts = [];
    for (let at = 0; at < this.window.length; at += PART_DOCUMENTS) {
      parts.push(["snapshot", { docs: this.window.slice(at, at + PART_DOCUMENTS) }]);
    }
    return [...parts, ["live", { count: this.window.length, ...(isLost && { reason: "history-lost" }) }]];
  }

  #envelopes({ time, batch }) {
    return batch
      .filter(({ stream, before, after }) => stream === this.wanted.stream && matches(after ?? before, this.wanted.filter ?? {}))
      .map(({ id, before, after }) => {
        const op = after ? (before ? "replace" : "insert") : "delete";
        return [op, { op, ns: `pond.${this.wanted.stream}`, id, doc: after, time: idOf(time) }];
      });
  }
}

class Connection {
  constructor(server, request, response) {
    this.server = server;
    this.response = response;
    this.address = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
    response.on("close", () => server.connections.delete(this));
    response.socket.setNoDelay(true);
    response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" });
    this.write("retry: 10\n\n");
  }

  bundle({ since, subscriptions }) {
    this.isBundle = true;
    const from = since === undefined ? undefined : timeOf(since);
    const tags = {};
    this.subscriptions = [];
    for (const [name, { snapshot, ...wanted }] of Object.entries(subscriptions)) {
      tags[name] = tagOf(wanted);
      if (this.subscriptions.some(({ tag }) => tag === tags[name])) continue;
      const isNew = Object.entries(subscriptions).some(([, one]) => one.snapshot && tagOf(withoutSnapshot(one)) === tags[name]);
      this.subscriptions.push(Object.assign(new Subscription(this.server.pond, wanted, tags[name]), { isNew }));
    }
    this.write(frame("opened", tags));
    this.send(this.subscriptions.flatMap((one) => this.tagged(one, one.begin(from, one.isNew))), true);
  }

  single(wanted, since) {
    const one = new Subscription(this.server.pond, wanted, undefined);
    this.subscriptions = [one];
    this.send(one.begin(since === undefined ? undefined : timeOf(since), false), true);
  }

  tagged({ tag }, events) {
    return events.map(([type, data]) => [type, tag ? { of: tag, ...data } : data]);
  }

  publish(logged) {
    const events = this.subscriptions.flatMap((one) => this.tagged(one, one.next(logged)));
    if (events.length) this.send(events, false);
    else if (this.subscriptions.some(({ progress }) => progress)) this.write(`id: ${idOf(this.server.pond.time)}\n\n`);
  }

  /** One write for one batch, and its id at the end. */
  send(events, isOpening) {
    const id = idOf(this.server.pond.time);
    const frames = events.map(([type, data], number) => {
      const isLast = number === events.length - 1;
      const isChange = !this.isBundle && this.subscriptions[0].wanted.mode === undefined;
      if (isChange) return frame(type, data, isLast ? id : `${id}-${number}`);
      return frame(type, data, !this.isBundle && isLast ? id : undefined);
    });
    if (this.isBundle) frames.push(frame("commit", {}, id));
    else if (!events.length && isOpening) frames.push(`id: ${id}\n\n`);
    this.write(frames.join(""));
  }

  write(text) {
    this.response.write(text);
  }
}

const withoutSnapshot = ({ snapshot, ...wanted }) => wanted;

const frame = (type, data, id) => `${id ? `id: ${id}\n` : ""}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

export class PondServer {
  pond = new Pond();
  connections = new Set();
  requests = 0;
  #http = createServer((request, response) => this.#answer(request, response));

  async start(port = 0) {
    await new Promise((resolve) => this.#http.listen(port, "127.0.0.1", resolve));
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.#http.address().port}/`;
  }

  write(...writes) {
    const logged = this.pond.write(...writes);
    for (const connection of this.connections) connection.publish(logged);
    return idOf(logged.time);
  }

  /** Cut every connection; one that is cut in the middle of a write has sent part of it. */
  cut() {
    for (const connection of this.connections) connection.response.destroy();
    this.connections.clear();
  }

  async close() {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  async #answer(request, response) {
    let body = "";
    for await (const part of request) body += part;
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    if (!pathname.startsWith("/stream")) return this.serve(pathname, response);
    this.requests += 1;
    const connection = new Connection(this, request, response);
    this.connections.add(connection);
    if (request.method === "POST") return connection.bundle(JSON.parse(body));
    const wanted = Object.fromEntries([...searchParams].filter(([name]) => name !== "format"));
    for (const name of ["filter", "sort", "limit", "progress"]) if (wanted[name]) wanted[name] = JSON.parse(wanted[name]);
    connection.single({ ...wanted, stream: decodeURIComponent(pathname.split("/")[2]) }, request.headers["last-event-id"]);
  }

  async serve(pathname, response) {
    const name = /^\/static\/([\w-]+\.js)$/.exec(pathname)?.[1];
    if (!name) return response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>pond</title>");
    const text = await readFile(new URL(`../../static/${name}`, import.meta.url));
    response.writeHead(200, { "Content-Type": "text/javascript" }).end(text);
  }
}

/** A line of the standard input, `{"do": "write", "writes": [...]}` and the like, has an answer of one line. */
class Program {
  #server = new PondServer();

  async run() {
    await this.#server.start(Number(process.argv[2] ?? 0));
    console.log(JSON.stringify(this.#server.url));
    for await (const line of createInterface({ input: process.stdin })) {
      const { do: name, ...rest } = JSON.parse(line);
      console.log(JSON.stringify(this[name](rest) ?? null));
    }
    process.exit(0);
  }

  write({ writes }) {
    return this.#server.write(...writes);
  }

  cut() {
    this.#server.cut();
  }

  forget() {
    this.#server.pond.forget();
  }

  statistics() {
    const { connections, requests } = this.#server;
    const asked = [...connections].map(({ subscriptions }) => subscriptions.map(({ wanted }) => wanted));
    return { connections: connections.size, requests, asked };
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) await new Program().run();
