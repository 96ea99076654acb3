// A server of the tests: real HTTP, and each stream says what the test says, when the test says it.
//
//     const server = await FakeServer.start();
//     new Brook(server.url);
//     const stream = await server.stream();      // the next request for a stream
//     stream.open("t1.0");                       // the answer's head and opening
//     stream.event("changes", { changes: [] }, "t2.0");
//     stream.cut();
//     await server.close();

import { createServer } from "node:http";

export class FakeServer {
  requests = 0;
  #http = createServer((request, response) => this.#answer(request, response));
  #streams = new Queue();

  static async start() {
    const server = new FakeServer();
    await new Promise((resolve) => server.#http.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  get port() {
    return this.#http.address().port;
  }

  /** The next request for a stream, with its body read. */
  stream() {
    return this.#streams.take();
  }

  async close() {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  async #answer(request, response) {
    this.requests += 1;
    let body = "";
    for await (const part of request) body += part;
    this.#streams.put(new Stream(request, response, body));
  }
}

export class Stream {
  /** Resolves when the client has left. */
  left;

  constructor(request, response, body) {
    this.method = request.method;
    this.headers = request.headers;
    this.path = request.url;
    this.query = new URL(request.url, "http://localhost").searchParams;
    this.body = body ? JSON.parse(body) : undefined;
    this.response = response;
    this.left = new Promise((resolve) => response.on("close", resolve));
  }

  /** The head and the opening: `retry`, and a checkpoint if there is one. */
  open(checkpoint, { retry = 10 } = {}) {
    this.response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
    this.write(`retry: ${retry}\n\n`);
    if (checkpoint) this.checkpoint(checkpoint);
    return this;
  }

  /** The opening of a bundle: the tag of each subscription is made from what it asks for, and from the client's rule. */
  opened(checkpoint, rule) {
    this.open(checkpoint);
    this.tags = {};
    for (const [name, { snapshot, ...wanted }] of Object.entries(this.body.subscriptions)) {
      this.tags[name] = tagOf({ ...wanted, rule });
    }
    this.event("opened", this.tags);
    return this;
  }

  event(type, data, id) {
    const name = type === "message" ? "" : `event: ${type}\n`;
    this.write(`${id === undefined ? "" : `id: ${id}\n`}${name}data: ${JSON.stringify(data)}\n\n`);
    return this;
  }

  commit(id) {
    return this.event("commit", {}, id);
  }

  checkpoint(id) {
    this.write(`id: ${id}\n\n`);
    return this;
  }

  comment() {
    this.write(":\n\n");
    return this;
  }

  write(text) {
    this.response.write(text);
    return this;
  }

  refuse(status, problem = {}, headers = {}) {
    this.response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
    this.response.end(JSON.stringify({ type: "about:blank", status, ...problem }));
  }

  /** End the body properly, as a server does that stops. */
  end() {
    this.response.end();
  }

  /** Break the connection. */
  cut() {
    this.response.destroy();
  }
}

/** Values that somebody will take, or takers that wait for a value. */
export class Queue {
  #values = [];
  #takers = [];

  put(value) {
    if (this.#takers.length) this.#takers.shift()(value);
    else this.#values.push(value);
  }

  take() {
    if (this.#values.length) return Promise.resolve(this.#values.shift());
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  get length() {
    return this.#values.length;
  }
}

/** Equal subscriptions have equal tags, whatever the order of their parts. `progress` belongs to the connection. */
export function tagOf({ progress, ...wanted }) {
  const sorted = Object.entries(wanted).sort(([one], [other]) => (one < other ? -1 : 1));
  let hash = 0;
  for (const character of JSON.stringify(sorted)) hash = (hash * 31 + character.codePointAt()) >>> 0;
  return `k${hash.toString(36)}`;
}
