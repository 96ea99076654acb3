// Bundles: all queries of a page on one connection, true at the same time; and `reached`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brook } from "../../static/brook.js";
import { listener, serve, until } from "../support/listening.mjs";

const ids = (documents) => documents.map(({ _id }) => _id);
const upsert = (id) => ({ op: "upsert", why: "enter", id, doc: { _id: id } });
const remove = (id) => ({ op: "remove", why: "leave", id });

async function brookFor(t, options = {}) {
  const server = await serve(t);
  const brook = new Brook(server.url, { bundle: true, ...options });
  t.after(() => brook.close());
  return { server, brook };
}

/** Two live queries on one stream, "a" with document 1 and "b" with document 2, at t1.0. */
async function opened(t) {
  const { server, brook } = await brookFor(t);
  const [a, b] = [brook.live("a"), brook.live("b", { filter: { n: 1 } })];
  const [heardA, heardB] = [listener(), listener()];
  a.subscribe(heardA);
  b.subscribe(heardB);
  const stream = (await server.stream()).opened();
  const { q0, q1 } = stream.tags;
  stream.event("snapshot", { of: q0, docs: [{ _id: 1 }] }).event("live", { of: q0, count: 1 });
  stream.event("snapshot", { of: q1, docs: [{ _id: 2 }] }).event("live", { of: q1, count: 1 }).commit("t1.0");
  assert.deepEqual(ids((await heardA.next())[0]), [1]);
  assert.deepEqual(ids((await heardB.next())[0]), [2]);
  return { server, brook, a, b, heardA, heardB, stream };
}

test("the queries of one turn are one request", async (t) => {
  const { server, brook } = await brookFor(t);
  brook.live("creatures", { filter: { type: "crawdad" }, sort: { size: -1 }, limit: 50, fields: ["type"] }).subscribe(() => {});
  brook.changes("orders").subscribe(() => {});
  brook.count("orders").subscribe(() => {});
  const { method, path, headers, body } = await server.stream();
  assert.deepEqual([method, path, headers["content-type"]], ["POST", "/stream", "application/json"]);
  assert.deepEqual(body, {
    subscriptions: {
      q0: { stream: "creatures", mode: "live", filter: { type: "crawdad" }, sort: { size: -1 }, limit: 50, fields: "type", snapshot: true },
      q1: { stream: "orders", format: "envelope" },
      q2: { stream: "orders", mode: "count" },
    },
  });
  assert.equal(server.requests, 1);
});

test("what one batch brings to several queries is shown together, at its commit", async (t) => {
  const { a, b, heardA, heardB, stream } = await opened(t);
  const seen = [];
  a.subscribe(() => seen.push([ids(a.documents), ids(b.documents)]));
  b.subscribe(() => seen.push([ids(a.documents), ids(b.documents)]));
  seen.length = 0;
  const { q0, q1 } = stream.tags;
  stream.event("changes", { of: q0, changes: [remove(1), upsert(3)] });
  stream.event("feed", { state: "interrupted" });
  await until(a, () => a.state === "interrupted");
  assert.deepEqual(ids(a.documents), [1], "half of a batch is nothing");
  stream.event("changes", { of: q1, changes: [upsert(3)] }).commit("t2.0");
  await heardA.next();
  await heardB.next();
  assert.deepEqual(seen, [[[3], [2, 3]], [[3], [2, 3]]], "neither is told before both are true");
});

test("a cut between two halves of a batch shows neither, and both come again", async (t) => {
  const { server, a, b, heardA, heardB, stream } = await opened(t);
  stream.event("changes", { of: stream.tags.q0, changes: [remove(1)] }).cut();
  await until(a, () => a.state === "reconnecting");
  const again = await server.stream();
  assert.equal(again.body.since, "t1.0");
  assert.ok(Object.values(again.body.subscriptions).every(({ snapshot }) => snapshot === undefined));
  again.opened();
  const { q0, q1 } = again.tags;
  again.event("changes", { of: q0, changes: [remove(1)] }).event("changes", { of: q1, changes: [upsert(1)] });
  again.event("live", { of: q0, count: 0, resumed: true }).event("live", { of: q1, count: 2, resumed: true }).commit("t2.0");
  assert.deepEqual(ids((await heardA.next())[0]), []);
  assert.deepEqual(ids((await heardB.next())[0]), [2, 1]);
  assert.deepEqual([heardA.waiting(), heardB.waiting(), b.state], [0, 0, "live"]);
});

test("with other claims, each query begins anew, and what is held stays until then", async (t) => {
  const { server, a, heardA, heardB, stream } = await opened(t);
  stream.event("bye", { reason: "token-expired" }).cut();
  const other = await server.stream();
  assert.equal(other.body.since, "t1.0");
  other.opened(undefined, "of another role");
  // The changes of what the other claims open, which do not bring what they have opened.
  other.event("changes", { of: other.tags.q0, changes: [upsert(5)] }).commit("t2.0");
  await other.left;
  const again = await server.stream();
  assert.deepEqual(Object.values(again.body.subscriptions).map(({ snapshot }) => snapshot), [true, true]);
  assert.deepEqual([ids(a.documents), heardA.waiting()], [[1], 0]);
  again.opened(undefined, "of another role");
  const { q0, q1 } = again.tags;
  again.event("snapshot", { of: q0, docs: [{ _id: 5 }, { _id: 6 }] }).event("live", { of: q0, count: 2 });
  again.event("live", { of: q1, count: 0 }).commit("t2.0");
  assert.deepEqual(ids((await heardA.next())[0]), [5, 6]);
  assert.deepEqual(ids((await heardB.next())[0]), []);
  await until(a, () => a.state === "live");
  again.event("changes", { of: q0, changes: [remove(5)] }).commit("t3.0");
  assert.deepEqual(ids((await heardA.next())[0]), [6]);
  assert.equal(server.requests, 3);
});

test("a new query joins by a new connection from the same position, and the others see no change", async (t) => {
  const { server, brook, a, heardA, stream } = await opened(t);
  const states = [];
  a.addEventListener("statechange", () => states.push(a.state));
  const c = brook.live("c");
  const heard = listener();
  c.subscribe(heard);
  await stream.left;
  const again = await server.stream();
  assert.equal(again.body.since, "t1.0");
  assert.deepEqual(Object.values(again.body.subscriptions).map(({ snapshot }) => Boolean(snapshot)), [false, false, true]);
  again.opened();
  const { q0, q1, q2 } = again.tags;
  again.event("live", { of: q0, count: 1, resumed: true }).event("live", { of: q1, count: 1, resumed: true });
  again.event("snapshot", { of: q2, docs: [{ _id: 9 }] }).event("live", { of: q2, count: 1 }).commit("t3.0");
  assert.deepEqual(ids((await heard.next())[0]), [9]);
  assert.deepEqual([states, heardA.waiting(), server.requests], [[], 0, 2]);
});

test("a query that leaves is taken out, and the last one closes the connection", async (t) => {
  const { server, brook, stream } = await opened(t);
  const changes = brook.changes("d");
  const stop = changes.subscribe(() => {});
  await stream.left;
  const three = (await server.stream()).opened();
  assert.equal(Object.keys(three.body.subscriptions).length, 3);
  stop();
  await three.left;
  const two = (await server.stream()).opened();
  assert.deepEqual(Object.values(two.body.subscriptions).map((one) => one.stream), ["a", "b"]);
  brook.close();
  await two.left;
});

test("changes of a bundle come at its commits, once, also when a query joins in the middle", async (t) => {
  const { server, brook } = await brookFor(t);
  const heard = listener();
  brook.changes("orders").subscribe(heard);
  const stream = (await server.stream()).opened("t1.0");
  const insert = (of, id) => ({ of, op: "insert", ns: "shop.orders", id, doc: { _id: id } });
  stream.event("insert", insert(stream.tags.q0, 1)).commit("t2.0").event("insert", insert(stream.tags.q0, 2));
  assert.deepEqual(await heard.next(), [{ op: "insert", ns: "shop.orders", id: 1, doc: { _id: 1 } }]);
  brook.live("a").subscribe(() => {});
  const again = await server.stream();
  assert.equal(again.body.since, "t2.0");
  again.opened().event("insert", insert(again.tags.q0, 2)).commit("t3.0");
  assert.equal((await heard.next())[0].id, 2);
  assert.equal(heard.waiting(), 0);
});

test("a gap of one subscription is a reset of it alone; a new snapshot needs none", async (t) => {
  const { server, brook } = await brookFor(t);
  const [one, other] = [listener(), listener()];
  brook.changes("one").subscribe(one);
  brook.changes("other").subscribe(other);
  const stream = (await server.stream()).opened("t1.0");
  const { q0, q1 } = stream.tags;
  stream.event("reset", { of: q0, reason: "collection-dropped", ns: "shop.one" });
  stream.event("insert", { of: q1, op: "insert", id: 1 }).commit("t2.0");
  assert.deepEqual(await one.next(), [{ op: "reset", reason: "collection-dropped", ns: "shop.one" }]);
  assert.deepEqual(await other.next(), [{ op: "insert", id: 1 }]);
  assert.equal(one.waiting(), 0);
});

test("a position that the server does not know: a reset for changes, a snapshot for results", async (t) => {
  const { server, brook, a, heardA, stream } = await opened(t);
  const changes = listener();
  brook.changes("c").subscribe(changes);
  await stream.left;
  (await server.stream()).refuse(400, { code: "invalid-id", detail: "no such position" });
  assert.deepEqual(await changes.next(), [{ op: "reset", reason: "invalid-id", since: "t1.0" }]);
  const again = await server.stream();
  assert.equal(again.body.since, undefined);
  assert.deepEqual(Object.values(again.body.subscriptions).map(({ snapshot }) => snapshot), [true, true, undefined]);
  again.opened();
  const { q0, q1 } = again.tags;
  again.event("snapshot", { of: q0, docs: [{ _id: 5 }] }).event("live", { of: q0, count: 1 });
  assert.deepEqual(ids(a.documents), [1]);
  again.event("live", { of: q1, count: 0 }).commit("t9.0");
  assert.deepEqual(ids((await heardA.next())[0]), [5]);
});

test("one refused subscription ends alone", async (t) => {
  const { server, brook } = await brookFor(t);
  const good = brook.live("creatures");
  const bad = brook.live("creatures", { filter: { $where: "1" } });
  good.subscribe(() => {});
  bad.subscribe(() => {});
  const at = "subscriptions.q1.filter";
  (await server.stream()).refuse(400, { code: "invalid-filter", detail: "unknown operator $where", at });
  const again = await server.stream();
  assert.deepEqual(Object.keys(again.body.subscriptions), ["q0"]);
  again.opened();
  await until(brook, () => brook.state === "live");
  assert.deepEqual([bad.state, bad.error.code, bad.error.at, good.error], ["ended", "invalid-filter", at, null]);
});

test("one subscription that is refused in the stream ends alone, at once", async (t) => {
  const { server, brook } = await brookFor(t);
  const good = brook.live("creatures");
  const bad = brook.live("creatures", { filter: { type: "newt" } });
  good.subscribe(() => {});
  bad.subscribe(() => {});
  const stream = await server.stream();
  stream.opened();
  const of = stream.tags.q1;
  stream.event("problem", { of, status: 413, code: "snapshot-too-large", detail: "too many" }).end();
  const again = await server.stream();
  assert.deepEqual(Object.keys(again.body.subscriptions), ["q0"]);
  again.opened();
  await until(brook, () => brook.state === "live");
  assert.deepEqual([bad.state, bad.error.code, good.error], ["ended", "snapshot-too-large", null]);
});

test("a refusal of the whole bundle ends every query", async (t) => {
  const { server, brook } = await brookFor(t);
  const queries = [brook.live("a"), brook.changes("b")];
  for (const query of queries) query.subscribe(() => {});
  (await server.stream()).refuse(401, { code: "unauthenticated", detail: "a token is needed" });
  for (const query of queries) await until(query, () => query.state === "ended");
  assert.deepEqual(queries.map(({ error }) => error.code), ["unauthenticated", "unauthenticated"]);
  assert.deepEqual([brook.state, brook.why], ["ended", "a token is needed"]);
});

test("queries with an equal tag share what comes for it", async (t) => {
  const { server, brook } = await brookFor(t);
  const [one, other] = [listener(), listener()];
  brook.live("creatures", { limit: 5, sort: { n: 1 } }).subscribe(one);
  brook.live("creatures", { sort: { n: 1 }, limit: 5 }).subscribe(other);
  const stream = (await server.stream()).opened();
  assert.equal(stream.tags.q0, stream.tags.q1);
  stream.event("snapshot", { of: stream.tags.q0, docs: [{ _id: 1 }] }).event("live", { of: stream.tags.q0, count: 1 }).commit("t1.0");
  assert.deepEqual(ids((await one.next())[0]), [1]);
  assert.deepEqual(ids((await other.next())[0]), [1]);
});

test("more than 32 queries take a second connection, and one with a position of its own takes one, too", async (t) => {
  const { server, brook } = await brookFor(t);
  for (let n = 0; n < 40; n += 1) brook.live("creatures", { filter: { n } }).subscribe(() => {});
  brook.changes("creatures", { since: "t5.1" }).subscribe(() => {});
  const bodies = [(await server.stream()).body, (await server.stream()).body, (await server.stream()).body];
  const sizes = bodies.map(({ since, subscriptions }) => [since, Object.keys(subscriptions).length]);
  assert.deepEqual(sizes.sort(([, one], [, other]) => other - one), [[undefined, 32], [undefined, 8], ["t5.1", 1]]);
});

// -- reached ----------------------------------------------------------------------------------------

test("a position is reached when it has arrived, by an event or without one", async (t) => {
  const { server, brook, heardA, stream } = await opened(t);
  await brook.reached("t1.0");
  await brook.reached("t0.99");
  assert.equal(server.requests, 1, "nothing had to be asked for");
  let isReached = false;
  const reached = brook.reached("t2.5").then(() => (isReached = true));
  await stream.left;
  const again = await server.stream();
  assert.ok(Object.values(again.body.subscriptions).every(({ progress }) => progress === 1), "it asks for checkpoints");
  again.opened();
  again.event("changes", { of: again.tags.q0, changes: [upsert(8)] }).commit("t2.4");
  await heardA.next();
  assert.equal(isReached, false);
  again.checkpoint("t2.5");
  await reached;
  await Promise.all([brook.reached("t2.5"), brook.reached("t1.4294967295")]);
  assert.equal(server.requests, 2);
});

test("what was written is shown when its position is reached", async (t) => {
  const { server, brook, a } = await opened(t);
  const shown = brook.reached("t2.0").then(() => ids(a.documents));
  const again = (await server.stream()).opened();
  again.event("changes", { of: again.tags.q0, changes: [upsert(8)] }).commit("t2.0");
  assert.deepEqual(await shown, [1, 8]);
});

test("an event's own id is not yet past its time: others may share it", async (t) => {
  const server = await serve(t);
  const brook = new Brook(server.url, { bundle: false });
  t.after(() => brook.close());
  brook.changes("orders").subscribe(() => {});
  const stream = (await server.stream()).open("t1.0");
  await until(brook, () => brook.state === "live");
  let isReached = false;
  const reached = brook.reached("t2.0").then(() => (isReached = true));
  await stream.left;
  const again = await server.stream();
  assert.equal(again.query.get("progress"), "1");
  again.open().event("insert", { op: "insert" }, "t2.0-1f3a5c7e9b2d4f60").event("insert", { op: "insert" }, "t2.0-ffff");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(isReached, false);
  again.checkpoint("t2.0");
  await reached;
});

test("every connection has to reach a position", async (t) => {
  const server = await serve(t);
  const brook = new Brook(server.url, { bundle: false });
  t.after(() => brook.close());
  brook.changes("one").subscribe(() => {});
  brook.changes("other").subscribe(() => {});
  for (let count = 0; count < 2; count += 1) (await server.stream()).open("t1.0");
  await until(brook, () => brook.state === "live");
  let isReached = false;
  const reached = brook.reached("t5.0").then(() => (isReached = true));
  const [one, other] = [await server.stream(), await server.stream()];
  one.open("t6.0");
  other.open("t4.0");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(isReached, false);
  other.checkpoint("t5.0");
  await reached;
});

test("waiting for a position ends with its signal, with the page, and with a refusal", async (t) => {
  const { server, brook } = await brookFor(t);
  await brook.reached("t9.0");
  brook.live("a").subscribe(() => {});
  const controller = new AbortController();
  const aborted = brook.reached("t9.0", { signal: controller.signal });
  controller.abort();
  await assert.rejects(aborted, { name: "AbortError" });
  await assert.rejects(brook.reached("t9.0", { signal: AbortSignal.abort() }), { name: "AbortError" });
  const refused = brook.reached("t9.0");
  (await server.stream()).refuse(403, { code: "forbidden", detail: "no" });
  await assert.rejects(refused, { code: "forbidden" });
  brook.live("b").subscribe(() => {});
  const closed = brook.reached("t9.0");
  brook.close();
  await assert.rejects(closed, { code: "closed" });
  assert.throws(() => brook.reached("9.0"), TypeError);
});
