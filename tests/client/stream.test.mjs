// EventStream: one stream over as many connections as it takes, whatever happens to them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../../static/brook-stream.js";
import { Queue } from "../support/fake_server.mjs";
import { serve } from "../support/listening.mjs";

/** A stream that notes what it is told. */
function follow(t, server, options = {}) {
  const events = new Queue();
  const states = new Queue();
  const stream = new EventStream(`${server.url}stream`, {
    onEvent: (event) => events.put(event),
    onState: () => states.put([stream.state, stream.error?.code]),
    ...options,
  });
  t.after(() => stream.close());
  const until = async (wanted) => {
    for (;;) {
      const [state, code] = await states.take();
      if (state === wanted) return code;
    }
  };
  const next = async () => {
    const { type, data, id } = await events.take();
    return [type, data, id];
  };
  return { stream, events, states, until, next };
}

test("events are delivered with their ids, and a checkpoint moves the position alone", async (t) => {
  const server = await serve(t);
  const { stream, events, next, until } = follow(t, server);
  assert.equal(stream.state, "connecting");
  const request = await server.stream();
  assert.equal(request.headers.accept, "text/event-stream");
  assert.equal(request.headers["last-event-id"], undefined);
  request.open("t1.0");
  await until("live");
  request.event("insert", { n: 1 }, "82A").event("message", 2).checkpoint("t9.0").event("end", "");
  assert.deepEqual(await next(), ["insert", '{"n":1}', "82A"]);
  assert.deepEqual(await next(), ["message", "2", undefined]);
  assert.deepEqual(await next(), ["end", '""', undefined]);
  assert.equal(stream.position, "t9.0");
  assert.equal(events.length, 0);
});

test("a cut is followed by a connection from the last position, and nothing comes twice", async (t) => {
  const server = await serve(t);
  const { next, until } = follow(t, server);
  let request = (await server.stream()).open("t1.0");
  request.event("message", 1, "82A").write("id: 82B\ndata: half of an ev");
  assert.deepEqual(await next(), ["message", "1", "82A"]);
  request.cut();
  assert.equal(await until("reconnecting"), "cut");
  request = await server.stream();
  assert.equal(request.headers["last-event-id"], "82A");
  request.open().event("message", 2, "82B");
  await until("live");
  assert.deepEqual(await next(), ["message", "2", "82B"]);
});

test("waits double with each failure, are drawn from zero up, and start anew after a success", async (t) => {
  const server = await serve(t);
  const draws = t.mock.method(Math, "random", () => 0.999);
  const { until } = follow(t, server);
  let request = (await server.stream()).open("t1.0", { retry: 20 });
  const waits = [];
  for (let count = 0; count < 5; count += 1) {
    const before = performance.now();
    if (count === 0) request.end();
    else if (count % 2) request.cut();
    else request.refuse(502);
    request = await server.stream();
    waits.push(performance.now() - before);
  }
  for (const [count, wait] of waits.entries()) assert.ok(wait > 20 * 2 ** count - 5, `${waits}`);
  request.open();
  await until("live");
  draws.mock.mockImplementation(() => 0);
  const before = performance.now();
  request.end();
  (await server.stream()).open();
  assert.ok(performance.now() - before < 1_000);
});

test("a goodbye says why, and its retry is kept to the letter", async (t) => {
  const server = await serve(t);
  t.mock.method(Math, "random", () => 0);
  const { stream, until } = follow(t, server);
  const request = (await server.stream()).open("t1.0");
  request.write('retry: 150\nevent: bye\ndata: {"reason":"shutdown"}\n\n').end();
  const before = performance.now();
  assert.equal(await until("reconnecting"), "shutdown");
  assert.equal(stream.why, "the server closed the connection: shutdown");
  await server.stream();
  assert.ok(performance.now() - before > 140);
});

test("a problem in the stream is told, waited for, and is no gap", async (t) => {
  const server = await serve(t);
  const { stream, states, events, next, until } = follow(t, server);
  const refusals = [[503, "not-ready", "filling the history"], [413, "snapshot-too-large", "too many"]];
  for (const [status, code, detail] of refusals) {
    const request = await server.stream();
    const problem = JSON.stringify({ status, code, detail });
    request.response.writeHead(200, { "Content-Type": "text/event-stream" });
    request.write(`retry: 10\nevent: problem\ndata: ${problem}\n\n`).end();
    assert.deepEqual(await states.take(), ["connecting", code]);
    assert.equal(stream.why, detail);
  }
  (await server.stream()).open("t1.0").event("message", 1, "82A");
  await until("live");
  for (let count = 0; count < 2; count += 1) assert.equal((await next())[0], "problem");
  assert.deepEqual(await next(), ["message", "1", "82A"]);
  assert.equal(events.length, 0);
});

test("an interrupted feed is a state, and so is its end", async (t) => {
  const server = await serve(t);
  const { until } = follow(t, server);
  const request = (await server.stream()).open("t1.0");
  await until("live");
  request.event("feed", { state: "interrupted" });
  await until("interrupted");
  request.event("feed", { state: "live" });
  await until("live");
});

test("a silent connection is dead after 2.5 keep-alives, before and after its head", async (t) => {
  const server = await serve(t);
  const { until, states } = follow(t, server, { keepAliveSeconds: 0.1 });
  assert.equal(await until("connecting"), "silent");
  const first = await server.stream();
  await first.left;
  const request = (await server.stream()).open("t1.0");
  await until("live");
  const beats = setInterval(() => request.comment(), 100);
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(states.length, 0, "keep-alives were not counted");
  clearInterval(beats);
  const before = performance.now();
  assert.equal(await until("reconnecting"), "silent");
  assert.ok(performance.now() - before < 1_000);
  assert.equal((await server.stream()).headers["last-event-id"], "t1.0");
});

test("a token is asked for before each connection, and goes with the position", async (t) => {
  const server = await serve(t);
  let count = 0;
  const { until } = follow(t, server, { token: async () => `token-${(count += 1)}` });
  let request = await server.stream();
  assert.equal(request.headers.authorization, "Bearer token-1");
  request.open("t1.0").write('retry: 5\nevent: bye\ndata: {"reason":"token-expired"}\n\n').end();
  assert.equal(await until("reconnecting"), "token-expired");
  request = await server.stream();
  assert.equal(request.headers.authorization, "Bearer token-2");
  assert.equal(request.headers["last-event-id"], "t1.0");
  request.open();
  await until("live");
});

test("a refused token is replaced by a fresh one at once; a second refusal is the end", async (t) => {
  const server = await serve(t);
  let count = 0;
  const { stream, until } = follow(t, server, { token: () => `token-${(count += 1)}` });
  (await server.stream()).refuse(401, { code: "token-expired", detail: "expired" });
  const request = await server.stream();
  assert.equal(request.headers.authorization, "Bearer token-2");
  request.refuse(401, { code: "token-invalid", detail: "wrong key" });
  assert.equal(await until("ended"), "token-invalid");
  assert.deepEqual([stream.why, stream.error.status], ["wrong key", 401]);
});

test("a token that cannot be had now is asked for again", async (t) => {
  const server = await serve(t);
  let count = 0;
  const token = async () => {
    if ((count += 1) === 1) throw new Error("offline");
    return "late";
  };
  t.mock.method(Math, "random", () => 0);
  const { states } = follow(t, server, { token });
  assert.deepEqual(await states.take(), ["connecting", "no-token"]);
  assert.equal((await server.stream()).headers.authorization, "Bearer late");
});

for (const [status, code] of [[400, "invalid-filter"], [403, "forbidden"], [404, "unknown-stream"], [413, "snapshot-too-large"]]) {
  test(`${code} ends it, with the server's words`, async (t) => {
    const server = await serve(t);
    const { stream, until } = follow(t, server);
    (await server.stream()).refuse(status, { code, detail: "in the server's words" });
    assert.equal(await until("ended"), code);
    assert.equal(stream.why, "in the server's words");
    assert.equal(server.requests, 1);
  });
}

test("a 404 of a proxy ends a stream that never was, and is waited for by one that was", async (t) => {
  const server = await serve(t);
  const never = follow(t, server);
  (await server.stream()).response.writeHead(404, { "Content-Type": "text/html" }).end("<h1>no such page");
  assert.equal(await never.until("ended"), "http-404");
  assert.equal(never.stream.why, "the server answered 404 Not Found");
  const once = follow(t, server);
  (await server.stream()).open("t1.0", { retry: 1 }).end();
  (await server.stream()).response.writeHead(404).end("no such page");
  (await server.stream()).open();
  await once.until("live");
  await once.until("live");
});

for (const status of [408, 429, 500, 502, 503]) {
  test(`a ${status} passes`, async (t) => {
    const server = await serve(t);
    t.mock.method(Math, "random", () => 0);
    const { until } = follow(t, server);
    (await server.stream()).refuse(status);
    assert.equal(await until("connecting"), `http-${status}`);
    (await server.stream()).open("t1.0");
    await until("live");
  });
}

test("Retry-After is the least that is waited for", async (t) => {
  const server = await serve(t);
  t.mock.method(Math, "random", () => 0);
  follow(t, server);
  (await server.stream()).refuse(503, {}, { "Retry-After": "1" });
  const before = performance.now();
  await server.stream();
  assert.ok(performance.now() - before > 900);
});

test("a response that is no event stream is no stream", async (t) => {
  const server = await serve(t);
  t.mock.method(Math, "random", () => 0);
  const { until } = follow(t, server);
  (await server.stream()).response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>please log in");
  assert.equal(await until("connecting"), "not-a-stream");
  (await server.stream()).open("t1.0");
  await until("live");
});

test("a server that is not there is waited for", async (t) => {
  const server = await serve(t);
  t.mock.method(Math, "random", () => 0);
  const { url } = server;
  let isThere = false;
  const fetch = (...all) => (isThere ? globalThis.fetch(...all) : Promise.reject(new TypeError("fetch failed")));
  const { until } = follow(t, { url }, { fetch });
  assert.equal(await until("connecting"), "unreachable");
  isThere = true;
  (await server.stream()).open("t1.0");
  await until("live");
});

test("a cut before any id is told as a gap, and a problem in between changes nothing about it", async (t) => {
  const server = await serve(t);
  const { until, next, events } = follow(t, server);
  (await server.stream()).open().end();
  await until("reconnecting");
  assert.equal(events.length, 0, "nothing is known yet");
  const request = await server.stream();
  request.response.writeHead(200, { "Content-Type": "text/event-stream" });
  request.write("retry: 1\nevent: problem\ndata: {}\n\n").end();
  assert.equal((await next())[0], "problem");
  (await server.stream()).open().event("message", 1, "82A");
  assert.deepEqual(await next(), ["reset", '{"reason":"position-unknown"}', undefined]);
  assert.deepEqual(await next(), ["message", "1", "82A"]);
});

test("a reset forgets the position, also the one where the stream began", async (t) => {
  const server = await serve(t);
  const { stream, next } = follow(t, server, { since: "t0.1" });
  const request = await server.stream();
  assert.equal(request.query.get("since"), "t0.1");
  request.open().write('id\nevent: reset\ndata: {"reason":"history-lost"}\n\n');
  assert.equal((await next())[0], "reset");
  assert.equal(stream.position, "");
  request.cut();
  const again = await server.stream();
  assert.equal(again.query.get("since"), null);
  assert.equal(again.headers["last-event-id"], undefined);
  again.open();
  assert.deepEqual(await next(), ["reset", '{"reason":"position-unknown"}', undefined]);
});

test("a position that the server does not know is given up with a reset", async (t) => {
  const server = await serve(t);
  const { next } = follow(t, server);
  (await server.stream()).open("t1.0").end();
  (await server.stream()).refuse(400, { code: "invalid-id", detail: "not an id" });
  assert.deepEqual(await next(), ["reset", '{"reason":"invalid-id","since":"t1.0"}', undefined]);
  assert.equal((await server.stream()).headers["last-event-id"], undefined);
});

test("a bad first position is the page's mistake", async (t) => {
  const server = await serve(t);
  const { until } = follow(t, server, { since: "yesterday" });
  (await server.stream()).refuse(400, { code: "invalid-id", detail: "not an id" });
  assert.equal(await until("ended"), "invalid-id");
});

test("closing ends the connection, and nothing is delivered after it", async (t) => {
  const server = await serve(t);
  const heard = [];
  const { stream, until } = follow(t, server, {
    onEvent: ({ data }) => {
      heard.push(data);
      if (data === "2") stream.close();
    },
  });
  const request = (await server.stream()).open("t1.0");
  request.write("data: 1\nid: 82A\n\ndata: 2\nid: 82B\n\ndata: 3\nid: 82C\n\n");
  assert.equal(await until("ended"), "closed");
  await request.left;
  assert.deepEqual(heard, ["1", "2"]);
  assert.equal(stream.position, "82B", "it was delivered");
  assert.equal(server.requests, 1);
});

test("a signal closes it: at once, later, and while it waits to come back", async (t) => {
  const server = await serve(t);
  const aborted = follow(t, server, { signal: AbortSignal.abort() });
  assert.equal(await aborted.until("ended"), "closed");
  const controller = new AbortController();
  const open = follow(t, server, { signal: controller.signal });
  const waiting = follow(t, server, { signal: controller.signal });
  const [one, other] = [await server.stream(), await server.stream()];
  one.open("t1.0");
  other.open("t1.0", { retry: 1_000_000 }).end();
  await Promise.any([open.until("reconnecting"), waiting.until("reconnecting")]);
  controller.abort();
  await one.left;
  assert.deepEqual([open.stream.state, waiting.stream.state], ["ended", "ended"]);
  assert.equal(server.requests, 2);
});

test("reconnecting on purpose is no state, loses nothing, and skips a wait", async (t) => {
  const server = await serve(t);
  const { stream, states, until, next } = follow(t, server);
  let request = (await server.stream()).open("t1.0");
  await until("live");
  stream.reconnect();
  await request.left;
  request = await server.stream();
  assert.equal(request.headers["last-event-id"], "t1.0");
  request.open("t2.0", { retry: 1_000_000 }).event("message", 1, "82A");
  await next();
  assert.equal(states.length, 0);
  request.write('event: bye\ndata: {"reason":"shutdown"}\n\n').end();
  await until("reconnecting");
  stream.reconnect();
  (await server.stream()).open();
  await until("live");
});

test("a handler of a state or of a position that fails ends nothing, and moves nothing", async (t) => {
  const server = await serve(t);
  const reported = t.mock.method(console, "error", () => {});
  let isBroken = true;
  const fail = () => {
    if (isBroken) throw new Error("broken");
  };
  const { stream, next } = follow(t, server, { onState: fail, onPosition: fail });
  (await server.stream()).open("t1.0");
  const request = await server.stream();
  assert.equal(request.headers["last-event-id"], undefined);
  isBroken = false;
  request.open("t1.0").event("message", 1, "82A");
  assert.equal((await next())[0], "reset", "it may have missed something");
  assert.deepEqual(await next(), ["message", "1", "82A"]);
  assert.deepEqual([stream.state, stream.position], ["live", "82A"]);
  assert.ok(reported.mock.callCount() >= 2);
});

test("an event whose handler fails is not taken for delivered", async (t) => {
  const server = await serve(t);
  const heard = new Queue();
  const reported = t.mock.method(console, "error", () => {});
  let isBroken = true;
  const { until } = follow(t, server, {
    onEvent: ({ data }) => {
      if (isBroken) throw new Error("broken");
      heard.put(data);
    },
  });
  (await server.stream()).open("t1.0").event("message", 1, "82A");
  await until("reconnecting");
  isBroken = false;
  const request = await server.stream();
  assert.equal(request.headers["last-event-id"], "t1.0");
  request.open().event("message", 1, "82A");
  assert.equal(await heard.take(), "1");
  assert.equal(reported.mock.callCount(), 1);
});
