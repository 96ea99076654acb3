// One connection for several tabs. Here a tab is a Brook: Node has Web Locks and BroadcastChannel, too. The
// death of a tab needs a browser: see test_in_chromium.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brook } from "../../static/brook.js";
import { listener, serve, until } from "../support/listening.mjs";

const ids = (documents) => documents.map(({ _id }) => _id);
const upsert = (id) => ({ op: "upsert", why: "enter", id, doc: { _id: id } });
const remove = (id) => ({ op: "remove", why: "leave", id });

/** A server, and a function that opens tabs of its page. */
async function origin(t) {
  const server = await serve(t);
  const open = (options = {}) => {
    const brook = new Brook(server.url, { bundle: true, share: "test", ...options });
    t.after(() => brook.close());
    return brook;
  };
  return { server, open };
}

/** Follow a live query; its documents are waited for. */
function follow(brook, stream, wanted) {
  const live = brook.live(stream, wanted);
  const heard = listener();
  const stop = live.subscribe(heard);
  return { live, heard, stop, shown: async () => ids((await heard.next())[0]) };
}

/** The tag of a stream's subscription. */
const tag = (connection, stream) => {
  const [name] = Object.entries(connection.body.subscriptions).find(([, wanted]) => wanted.stream === stream);
  return connection.tags[name];
};

const snapshot = (connection, stream, ...docs) => {
  const of = tag(connection, stream);
  connection.event("snapshot", { of, docs: docs.map((_id) => ({ _id })) }).event("live", { of, count: docs.length });
};

const resumed = (connection, stream) => connection.event("live", { of: tag(connection, stream), count: 0, resumed: true });

const asked = ({ body }) =>
  Object.values(body.subscriptions).map(({ stream, snapshot }) => (snapshot ? `${stream} from a snapshot` : stream)).sort();

/** Two tabs on one connection: one shows "ponds", the other "rivers", at t1.0. */
async function twoTabs(t) {
  const { server, open } = await origin(t);
  const brooks = [open(), open()];
  const [ponds, rivers] = [follow(brooks[0], "ponds"), follow(brooks[1], "rivers")];
  const connection = await server.stream();
  connection.opened();
  snapshot(connection, "ponds", 1);
  snapshot(connection, "rivers", 2);
  connection.commit("t1.0");
  assert.deepEqual(await ponds.shown(), [1]);
  assert.deepEqual(await rivers.shown(), [2]);
  return { server, open, brooks, ponds, rivers, connection };
}

test("tabs that open together are one request, and each shows its own", async (t) => {
  const { server, brooks, ponds, rivers, connection } = await twoTabs(t);
  assert.deepEqual(asked(connection), ["ponds from a snapshot", "rivers from a snapshot"]);
  for (const brook of brooks) await until(brook, () => brook.state === "live");
  connection.event("changes", { of: tag(connection, "rivers"), changes: [upsert(3)] }).commit("t2.0");
  assert.deepEqual(await rivers.shown(), [2, 3]);
  await brooks[0].reached("t2.0");
  assert.deepEqual([ponds.heard.waiting(), server.requests], [0, 1]);
});

test("with other claims, the queries of every tab begin anew", async (t) => {
  const { server, ponds, rivers, connection } = await twoTabs(t);
  connection.event("bye", { reason: "token-expired" }).cut();
  const other = await server.stream();
  other.opened(undefined, "of another role");
  await other.left;
  let again = await server.stream();
  // Each tab says for itself that it has to begin anew.
  while (asked(again).some((one) => !one.endsWith("from a snapshot"))) again = await server.stream();
  again.opened(undefined, "of another role");
  snapshot(again, "ponds", 7);
  snapshot(again, "rivers");
  again.commit("t2.0");
  assert.deepEqual(await ponds.shown(), [7]);
  assert.deepEqual(await rivers.shown(), []);
});

test("a tab that comes later joins, and no other shows anything of it", async (t) => {
  const { server, open, ponds, rivers, connection } = await twoTabs(t);
  const lakes = follow(open(), "lakes");
  await connection.left;
  const next = await server.stream();
  assert.equal(next.body.since, "t1.0");
  assert.deepEqual(asked(next), ["lakes from a snapshot", "ponds", "rivers"]);
  next.opened();
  resumed(next, "ponds");
  resumed(next, "rivers");
  snapshot(next, "lakes", 7);
  next.commit("t2.0");
  assert.deepEqual(await lakes.shown(), [7]);
  next.event("changes", { of: tag(next, "ponds"), changes: [remove(1)] }).commit("t3.0");
  assert.deepEqual(await ponds.shown(), []);
  assert.deepEqual([ponds.heard.waiting(), rivers.heard.waiting(), lakes.heard.waiting(), server.requests], [0, 0, 0, 2]);
});

test("equal queries of two tabs are one subscription, and the second tab begins with a snapshot", async (t) => {
  const { server, open, ponds, connection } = await twoTabs(t);
  const again = follow(open(), "ponds");
  await connection.left;
  const next = await server.stream();
  assert.deepEqual(asked(next), ["ponds from a snapshot", "rivers"]);
  next.opened();
  snapshot(next, "ponds", 1, 4);
  resumed(next, "rivers");
  next.commit("t2.0");
  assert.deepEqual(await again.shown(), [1, 4]);
  assert.deepEqual(await ponds.shown(), [1, 4]);
  next.cut();
  assert.deepEqual(asked(await server.stream()), ["ponds", "rivers"], "both hold it now");
});

test("a batch is shown by no tab before its commit, and a cut takes it back from all", async (t) => {
  const { server, brooks, ponds, rivers, connection } = await twoTabs(t);
  connection.event("changes", { of: tag(connection, "ponds"), changes: [remove(1)] });
  connection.event("changes", { of: tag(connection, "rivers"), changes: [remove(2)] });
  connection.event("feed", { state: "interrupted" });
  for (const brook of brooks) await until(brook, () => brook.state === "interrupted");
  assert.deepEqual([ids(ponds.live.documents), ids(rivers.live.documents)], [[1], [2]]);
  connection.cut();
  for (const brook of brooks) await until(brook, () => brook.state === "reconnecting");
  assert.equal(brooks[1].error.code, "cut");
  const next = (await server.stream()).opened();
  assert.equal(next.body.since, "t1.0");
  next.event("changes", { of: tag(next, "ponds"), changes: [upsert(9)] });
  resumed(next, "ponds");
  resumed(next, "rivers");
  next.commit("t2.0");
  assert.deepEqual(await ponds.shown(), [1, 9]);
  for (const brook of brooks) await until(brook, () => brook.state === "live");
  assert.deepEqual([rivers.heard.waiting(), ids(rivers.live.documents)], [0, [2]]);
});

test("when the leading tab closes, another goes on from the same position", async (t) => {
  const { server, brooks, rivers, connection } = await twoTabs(t);
  const changes = listener();
  brooks[1].changes("floods").subscribe(changes);
  const three = (await server.stream()).opened();
  const insert = (of, id) => ({ of, op: "insert", id });
  three.event("insert", insert(tag(three, "floods"), 1)).commit("t2.0").event("insert", insert(tag(three, "floods"), 2));
  assert.equal((await changes.next())[0].id, 1);
  const states = [];
  brooks[1].addEventListener("statechange", () => states.push(brooks[1].state));
  brooks[0].close();
  await three.left;
  const next = await server.stream();
  assert.equal(next.body.since, "t2.0");
  assert.deepEqual(asked(next), ["floods", "rivers"]);
  next.opened();
  resumed(next, "rivers");
  next.event("insert", insert(tag(next, "floods"), 2)).commit("t3.0");
  assert.equal((await changes.next())[0].id, 2);
  assert.deepEqual([changes.waiting(), rivers.heard.waiting()], [0, 0]);
  assert.ok(!states.includes("ended"), `${states}`);
});

test("what a closed tab alone wanted is taken out", async (t) => {
  const { server, brooks, connection } = await twoTabs(t);
  brooks[1].close();
  await connection.left;
  assert.deepEqual(asked(await server.stream()), ["ponds"]);
});

test("a refused query ends in its tab alone", async (t) => {
  const { server, open, brooks, connection } = await twoTabs(t);
  const third = open();
  const bad = third.live("secrets");
  bad.subscribe(() => {});
  await connection.left;
  const refused = await server.stream();
  const [name] = Object.entries(refused.body.subscriptions).find(([, { stream }]) => stream === "secrets");
  refused.refuse(404, { code: "unknown-stream", detail: "there is no stream 'secrets'", at: `subscriptions.${name}` });
  await until(bad, () => bad.state === "ended");
  assert.deepEqual([bad.error.code, bad.why, third.state], ["unknown-stream", "there is no stream 'secrets'", "ended"]);
  const next = (await server.stream()).opened();
  assert.deepEqual(asked(next), ["ponds", "rivers"]);
  for (const brook of brooks) await until(brook, () => brook.state === "live");
});

test("a refusal of the connection ends every tab", async (t) => {
  const { server, open } = await origin(t);
  const lives = [open().live("a"), open().live("b")];
  for (const live of lives) live.subscribe(() => {});
  (await server.stream()).refuse(401, { code: "unauthenticated", detail: "log in" });
  for (const live of lives) await until(live, () => live.state === "ended");
  assert.deepEqual(lives.map(({ error }) => error.code), ["unauthenticated", "unauthenticated"]);
});

test("a tab that would make it too many has a connection of its own", async (t) => {
  const { server, open } = await origin(t);
  const first = open();
  for (let n = 0; n < 20; n += 1) first.live("ponds", { filter: { n } }).subscribe(() => {});
  const shared = (await server.stream()).opened();
  const second = open();
  const heard = listener();
  for (let n = 20; n < 40; n += 1) second.live("ponds", { filter: { n } }).subscribe(heard);
  const own = (await server.stream()).opened();
  assert.deepEqual([shared, own].map(({ body }) => Object.keys(body.subscriptions).length), [20, 20]);
  const of = Object.values(own.tags)[0];
  own.event("live", { of, count: 0 }).commit("t1.0");
  assert.deepEqual((await heard.next())[0], []);
  await until(second, () => second.state === "live");
  second.close();
  await own.left;
});

test("tabs of different users, and tabs without a name for theirs, share nothing", async (t) => {
  const { server, open } = await origin(t);
  open({ share: "ada", token: "ada's" }).live("ponds").subscribe(() => {});
  open({ share: "bob", token: "bob's" }).live("ponds").subscribe(() => {});
  open({ share: undefined, token: "nobody's" }).live("ponds").subscribe(() => {});
  const tokens = [];
  for (let count = 0; count < 3; count += 1) tokens.push((await server.stream()).headers.authorization);
  assert.deepEqual(tokens.sort(), ["Bearer ada's", "Bearer bob's", "Bearer nobody's"]);
});

test("a position is waited for in any tab, and any tab may reconnect", async (t) => {
  const { server, brooks, connection } = await twoTabs(t);
  const reached = brooks[1].reached("t5.0");
  await connection.left;
  const next = (await server.stream()).opened();
  const progress = Object.values(next.body.subscriptions).map((one) => [one.stream, one.progress]);
  assert.deepEqual(progress.sort(), [["ponds", undefined], ["rivers", 1]]);
  resumed(next, "ponds");
  resumed(next, "rivers");
  next.commit("t5.0");
  await reached;
  brooks[1].reconnect();
  await next.left;
  assert.equal((await server.stream()).body.since, "t5.0");
});
