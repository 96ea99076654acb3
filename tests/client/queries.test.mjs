// Live, Count and Changes, each over a stream of its own (`bundle: false`): what a page is told, and when.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brook } from "../../static/brook.js";
import { listener, serve, take, until } from "../support/listening.mjs";

const doc = (_id, more = {}) => ({ _id, ...more });
const upsert = (id, more, before) => ({
  op: "upsert", why: "enter", id, doc: doc(id, more), ...(before === undefined ? {} : { before }),
});
const remove = (id) => ({ op: "remove", why: "leave", id });
const ids = (documents) => documents.map(({ _id }) => _id);

/** A Brook with one stream for each query. */
async function brookFor(t, options = {}) {
  const server = await serve(t);
  const brook = new Brook(server.url, { bundle: false, ...options });
  t.after(() => brook.close());
  return { server, brook };
}

/** A live query that holds documents 1 and 2 at t1.0. */
async function opened(t, wanted = {}) {
  const { server, brook } = await brookFor(t);
  const live = brook.live("creatures", wanted);
  const heard = listener();
  live.subscribe(heard);
  const stream = (await server.stream()).open();
  stream.event("snapshot", { docs: [doc(1), doc(2)] }).event("live", { count: 2 }, "t1.0");
  await heard.next();
  return { server, brook, live, heard, stream };
}

test("a live query asks for what the page asks for", async (t) => {
  const { server, brook } = await brookFor(t);
  const wanted = { filter: { type: "crawdad" }, sort: { size: -1, _id: 1 }, limit: 50, fields: ["type", "size"], every: 500 };
  brook.live("a/b c", wanted).subscribe(() => {});
  const { path, query, headers } = await server.stream();
  assert.ok(path.startsWith("/stream/a%2Fb%20c?"));
  assert.deepEqual(Object.fromEntries(query), {
    mode: "live", filter: '{"type":"crawdad"}', sort: '{"size":-1,"_id":1}', limit: "50", fields: "type,size", every: "500",
  });
  assert.equal(headers["last-event-id"], undefined);
});

test("a snapshot is shown as a whole, and the state is live only then", async (t) => {
  const { server, brook } = await brookFor(t);
  const live = brook.live("creatures");
  const heard = listener();
  live.subscribe(heard);
  assert.equal(live.documents, null);
  const stream = (await server.stream()).open();
  stream.event("snapshot", { docs: [doc(1)] });
  await until(brook, () => brook.state === "live");
  assert.deepEqual([live.state, live.documents, heard.waiting()], ["connecting", null, 0]);
  stream.event("snapshot", { docs: [doc(2)] }).event("live", { count: 2 }, "t1.0");
  const [documents, { changes }] = await heard.next();
  assert.deepEqual(documents, [doc(1), doc(2)]);
  assert.equal(changes, null);
  assert.equal(live.state, "live");
  assert.equal(live.documents, documents);
  assert.ok(Object.isFrozen(documents));
});

test("an empty result set is a result", async (t) => {
  const { server, brook } = await brookFor(t);
  const heard = listener();
  brook.live("creatures").subscribe(heard);
  (await server.stream()).open().event("live", { count: 0 }, "t1.0");
  assert.deepEqual((await heard.next())[0], []);
});

test("a batch is applied as a whole and told once, with its changes", async (t) => {
  const { live, heard, stream } = await opened(t);
  const before = live.documents;
  const changes = [upsert(1, { size: 3 }), remove(2), remove(7), upsert(3)];
  stream.event("changes", { changes }, "t2.0");
  const [documents, news] = await heard.next();
  assert.deepEqual(documents, [doc(1, { size: 3 }), doc(3)]);
  assert.deepEqual(news.changes, changes);
  assert.deepEqual(before, [doc(1), doc(2)], "the page may still hold the documents of before");
  assert.equal(heard.waiting(), 0);
});

test("a window keeps its order", async (t) => {
  const { heard, stream } = await opened(t, { sort: { size: 1 }, limit: 3 });
  const told = async (...changes) => {
    stream.event("changes", { changes }, "t2.0");
    return ids((await heard.next())[0]);
  };
  assert.deepEqual(await told(upsert(3, {}, 1)), [3, 1, 2]);
  assert.deepEqual(await told(upsert(4, {}, 2), remove(3)), [1, 4, 2]);
  assert.deepEqual(await told(upsert(1, {}, null)), [4, 2, 1], "moved to the end");
  assert.deepEqual(await told(upsert(2, { size: 1 }, 1)), [4, 2, 1], "taken out first, and put where it was");
  assert.deepEqual(await told(remove(4)), [2, 1]);
  assert.deepEqual(await told(upsert(9, {}, null), upsert(8, {}, 9), upsert(7, {}, 8)), [2, 1, 7, 8, 9]);
});

test("equal _ids are one document, whatever their type, and unequal ones are two", async (t) => {
  const { live, heard, stream } = await opened(t);
  const changes = [upsert({ a: 1, b: [2] }, { n: 1 }), upsert("1"), upsert({ a: 1, b: [2] }, { n: 2 }), upsert(null)];
  stream.event("changes", { changes }, "t2.0");
  await heard.next();
  assert.deepEqual(live.documents, [doc(1), doc(2), doc({ a: 1, b: [2] }, { n: 2 }), doc("1"), doc(null)]);
  stream.event("changes", { changes: [remove({ a: 1, b: [2] }), remove(1), remove(null)] }, "t3.0");
  await heard.next();
  assert.deepEqual(ids(live.documents), [2, "1"]);
});

test("a late subscriber gets the documents at once, from the same stream", async (t) => {
  const { server, brook, live, stream, heard } = await opened(t);
  const calls = [];
  live.subscribe((documents) => calls.push(documents));
  assert.deepEqual(calls, [live.documents]);
  assert.equal(brook.live("creatures"), live, "equal queries are one");
  assert.notEqual(brook.live("creatures", { limit: 1 }), live);
  stream.event("changes", { changes: [remove(1)] }, "t2.0");
  await heard.next();
  assert.equal(calls.length, 2);
  assert.equal(server.requests, 1);
});

test("a cut keeps the documents, and what was missed comes from the position", async (t) => {
  const { server, live, heard, stream } = await opened(t);
  stream.event("changes", { changes: [remove(1)] }, "t2.0");
  await heard.next();
  const shown = live.documents;
  stream.cut();
  await until(live, () => live.state === "reconnecting");
  assert.equal(live.documents, shown);
  const again = await server.stream();
  assert.equal(again.headers["last-event-id"], "t2.0");
  again.open().event("changes", { changes: [upsert(5), remove(99)] }, "t3.0");
  again.event("live", { count: 2, resumed: true }, "t3.0");
  assert.deepEqual(ids((await heard.next())[0]), [2, 5]);
  await until(live, () => live.state === "live");
  again.checkpoint("t4.0").event("changes", { changes: [remove(2)] }, "t5.0");
  assert.deepEqual(ids((await heard.next())[0]), [5]);
  assert.equal(heard.waiting(), 0, "a resumed result set is no news");
});

test("a new snapshot is swapped in as a whole: the page never flashes empty", async (t) => {
  const { server, live, heard, stream } = await opened(t);
  stream.cut();
  let again = (await server.stream()).open();
  again.event("snapshot", { docs: [doc(7)] });
  await until(live, () => live.state === "live");
  assert.deepEqual(ids(live.documents), [1, 2]);
  again.cut();
  await until(live, () => live.state === "reconnecting");
  again = (await server.stream()).open();
  again.event("snapshot", { docs: [doc(8)] }).event("live", { count: 1, reason: "history-lost" }, "t9.0");
  const [documents, { changes, reason }] = await heard.next();
  assert.deepEqual(ids(documents), [8], "the half of a snapshot that was cut is not in it");
  assert.deepEqual([changes, reason], [null, "history-lost"]);
  assert.equal(heard.waiting(), 0);
});

test("a first snapshot that is cut begins again, without a position", async (t) => {
  const { server, brook } = await brookFor(t);
  const heard = listener();
  brook.live("creatures").subscribe(heard);
  const stream = (await server.stream()).open("t1.0");
  stream.event("snapshot", { docs: [doc(1)] }).cut();
  const again = await server.stream();
  assert.equal(again.headers["last-event-id"], undefined, "it would get the changes of what it does not hold");
  again.open("t2.0").event("snapshot", { docs: [doc(2)] }).event("live", { count: 1 }, "t2.0");
  assert.deepEqual(ids((await heard.next())[0]), [2]);
});

test("changes between two draws of a snapshot and its batch are told in order", async (t) => {
  const { server, brook } = await brookFor(t);
  const heard = listener();
  brook.live("creatures").subscribe(heard);
  const stream = (await server.stream()).open();
  stream.write(
    'event: snapshot\ndata: {"docs":[{"_id":1}]}\n\nid: t1.0\nevent: live\ndata: {"count":1}\n\n' +
      'id: t2.0\nevent: changes\ndata: {"changes":[{"op":"remove","why":"delete","id":1}]}\n\n',
  );
  assert.deepEqual((await heard.next())[0], [doc(1)]);
  assert.deepEqual((await heard.next())[0], []);
});

test("a listener that fails, or leaves, is no matter to the others", async (t) => {
  const { live, stream } = await opened(t);
  const reported = t.mock.method(console, "error", () => {});
  const heard = listener();
  const controller = new AbortController();
  live.subscribe(() => controller.abort(), { signal: controller.signal });
  live.subscribe(() => { throw new Error("broken"); });
  live.subscribe(heard);
  await heard.next();
  stream.event("changes", { changes: [remove(1)] }, "t2.0");
  await heard.next();
  assert.equal(reported.mock.callCount(), 2);
});

test("the last subscriber takes the stream along, after a moment in which another may come", async (t) => {
  const { server, brook } = await brookFor(t);
  const live = brook.live("creatures");
  const controller = new AbortController();
  live.subscribe(() => {}, { signal: controller.signal });
  const stream = (await server.stream()).open();
  stream.event("live", { count: 0 }, "t1.0");
  await until(live, () => live.state === "live");
  controller.abort();
  const stop = live.subscribe(() => {});
  stop();
  await stream.left;
  assert.equal(server.requests, 1);
  assert.deepEqual([live.state, live.documents, brook.state], ["connecting", null, "connecting"]);
  live.subscribe(() => {});
  assert.equal((await server.stream()).headers["last-event-id"], undefined, "it holds nothing any more");
});

test("a refused query ends with the server's code, and may be asked for again", async (t) => {
  const { server, brook } = await brookFor(t);
  const live = brook.live("creatures", { filter: { $where: "1" } });
  const stop = live.subscribe(() => {});
  (await server.stream()).refuse(400, { code: "invalid-filter", detail: "unknown operator $where at filter" });
  await until(live, () => live.state === "ended");
  assert.deepEqual([live.error.code, live.why, brook.state], ["invalid-filter", "unknown operator $where at filter", "ended"]);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  stop();
  t.mock.timers.runAll();
  t.mock.timers.reset();
  assert.equal(live.state, "ended", "the error is there when nobody listens any more");
  live.subscribe(() => {});
  await server.stream();
  assert.equal(live.state, "connecting");
});

test("a count is told when it changes", async (t) => {
  const { server, brook } = await brookFor(t);
  const count = brook.count("creatures", { filter: { type: "crawdad" } });
  const heard = listener();
  count.subscribe(heard);
  const stream = (await server.stream()).open();
  assert.equal(stream.query.get("mode"), "count");
  stream.event("count", { count: 3 }, "t1.0").event("count", { count: 4 }, "t2.0");
  assert.deepEqual([await heard.next(), await heard.next()], [[3], [4]]);
  const late = listener();
  count.subscribe(late);
  assert.deepEqual(await late.next(), [4]);
});

const envelope = (op, id, more) => ({ op, ns: "pond.creatures", id, doc: { _id: id }, ...more });

test("changes come one by one to an iterator, across a cut, and breaking out ends the stream", async (t) => {
  const { server, brook } = await brookFor(t);
  const changes = brook.changes("creatures", { ops: ["insert", "delete"], before: true });
  const iterator = changes[Symbol.asyncIterator]();
  const first = iterator.next();
  const stream = await server.stream();
  assert.deepEqual(Object.fromEntries(stream.query), { format: "envelope", ops: "insert,delete", before: "1" });
  stream.open("t1.0").event("insert", envelope("insert", 1), "82A").event("delete", envelope("delete", 1), "82B");
  assert.deepEqual((await first).value, envelope("insert", 1));
  assert.deepEqual(await take(iterator, 1), [envelope("delete", 1)]);
  assert.equal(changes.position, "82B");
  stream.cut();
  const again = await server.stream();
  assert.equal(again.headers["last-event-id"], "82B");
  again.open().event("insert", envelope("insert", 2), "82C");
  for await (const change of { [Symbol.asyncIterator]: () => iterator }) {
    assert.deepEqual(change, envelope("insert", 2));
    break;
  }
  await again.left;
});

test("a gap in the changes is a reset among them", async (t) => {
  const { server, brook } = await brookFor(t);
  const heard = listener();
  brook.changes("creatures").subscribe(heard);
  const stream = (await server.stream()).open("t1.0");
  stream.write('id\nevent: reset\ndata: {"reason":"history-lost","since":"8269"}\n\n');
  stream.event("insert", envelope("insert", 1), "82A");
  assert.deepEqual(await heard.next(), [{ op: "reset", reason: "history-lost", since: "8269" }]);
  assert.deepEqual(await heard.next(), [envelope("insert", 1)]);
});

test("changes begin where the page says", async (t) => {
  const { server, brook } = await brookFor(t);
  brook.changes("creatures", { since: "t5.1" }).subscribe(() => {});
  const stream = await server.stream();
  assert.equal(stream.query.get("since"), "t5.1");
});

test("an iterator that nobody reads holds so many changes, and then says that there is a gap", async (t) => {
  const { server, brook } = await brookFor(t);
  const changes = brook.changes("creatures", { buffer: 3 });
  const iterator = changes[Symbol.asyncIterator]();
  const first = iterator.next();
  const stream = (await server.stream()).open("t1.0");
  stream.event("insert", envelope("insert", 1), "82A1");
  assert.equal((await first).value.id, 1);
  for (let id = 2; id <= 6; id += 1) stream.event("insert", envelope("insert", id), `82A${id}`);
  while (changes.position !== "82A6") await new Promise(setImmediate);
  const rest = await take(iterator, 3);
  assert.deepEqual(rest.map(({ op, reason, id }) => reason ?? `${op} ${id}`), ["slow-consumer", "insert 5", "insert 6"]);
});

test("an iterator ends when the page closes, and throws when the server refuses", async (t) => {
  const { server, brook } = await brookFor(t);
  const refused = brook.changes("secrets")[Symbol.asyncIterator]().next();
  (await server.stream()).refuse(404, { code: "unknown-stream", detail: "there is no stream 'secrets'" });
  await assert.rejects(refused, { name: "Problem", code: "unknown-stream", status: 404 });
  const waiting = brook.changes("creatures")[Symbol.asyncIterator]().next();
  const stream = (await server.stream()).open("t1.0");
  await until(brook, () => brook.state === "live");
  brook.close();
  assert.deepEqual(await waiting, { value: undefined, done: true });
  await stream.left;
  assert.deepEqual([brook.state, brook.error.code], ["ended", "closed"]);
  const late = brook.live("creatures");
  late.subscribe(() => assert.fail("it is closed"));
  assert.equal(late.state, "ended");
});

test("a signal closes everything", async (t) => {
  const controller = new AbortController();
  const { server, brook } = await brookFor(t, { signal: controller.signal });
  brook.live("creatures").subscribe(() => {});
  brook.changes("creatures").subscribe(() => {});
  const streams = [await server.stream(), await server.stream()];
  for (const stream of streams) stream.open("t1.0");
  controller.abort();
  await Promise.all(streams.map(({ left }) => left));
  assert.equal(brook.state, "ended");
});

test("the state of several streams is the worst of them", async (t) => {
  const { server, brook } = await brookFor(t);
  brook.live("one").subscribe(() => {});
  brook.live("other").subscribe(() => {});
  const [one, other] = [await server.stream(), await server.stream()];
  one.open("t1.0");
  assert.equal(brook.state, "connecting");
  other.open("t1.0");
  await until(brook, () => brook.state === "live");
  one.event("feed", { state: "interrupted" });
  await until(brook, () => brook.state === "interrupted");
  one.event("feed", { state: "live" });
  await until(brook, () => brook.state === "live");
  other.cut();
  await until(brook, () => brook.state === "reconnecting");
  assert.equal(brook.why, "connection lost");
});

test("a text that is no JSON is a failure of the connection, and not skipped", async (t) => {
  const { server, live, stream } = await opened(t);
  t.mock.method(console, "error", () => {});
  stream.write("id: t2.0\nevent: changes\ndata: {\"changes\":[\n\n");
  await until(live, () => live.state === "reconnecting");
  assert.equal(live.error.code, "unreadable");
  assert.equal((await server.stream()).headers["last-event-id"], "t1.0");
});
