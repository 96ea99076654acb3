// The adapters, from the installed package, each with its own framework.
// This folder is copied into a fresh project, beside the fake server: see test_package.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brook, Problem } from "babbling-brook";
import { EventStream } from "babbling-brook/stream";
import { showList } from "babbling-brook/dom";
import { useLive } from "babbling-brook/react";
import { liveStore } from "babbling-brook/svelte";
import { brookCollectionOptions } from "babbling-brook/tanstack";
import { createCollection, createLiveQueryCollection, eq } from "@tanstack/db";
import { useLive as useInVue } from "babbling-brook/vue";
import { Window } from "happy-dom";
import { act, createElement, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { effectScope, nextTick, shallowRef, watch } from "vue";
import { serve } from "./listening.mjs";

const page = new Window();
Object.assign(globalThis, { window: page, document: page.document, IS_REACT_ACT_ENVIRONMENT: true });
// React looks for a window when it is loaded.
const { createRoot } = await import("react-dom/client");

const doc = (_id, type) => ({ _id, type });

/** A Brook, a live query, and the stream that answers it when there is a subscriber. */
async function pond(t) {
  const server = await serve(t);
  const brook = new Brook(server.url, { bundle: true, share: false });
  t.after(() => brook.close());
  const answer = async (...docs) => {
    const stream = (await server.stream()).opened();
    const of = stream.tags.q0;
    stream.event("snapshot", { of, docs }).event("live", { of, count: docs.length }).commit("t1.0");
    let time = 1;
    const change = (...changes) => stream.event("changes", { of, changes }).commit(`t${(time += 1)}.0`);
    return { stream, change };
  };
  answer.again = async () => (await server.stream()).opened();
  return { brook, live: brook.live("creatures"), answer };
}

/** Resolves when a condition holds; it is looked at whenever the query tells something. */
function when(live, isSo) {
  return new Promise((resolve) => {
    const stop = live.subscribe(look);
    live.addEventListener("statechange", look);
    const timer = setInterval(look, 5);
    function look() {
      if (!isSo()) return;
      clearInterval(timer);
      live.removeEventListener("statechange", look);
      queueMicrotask(() => stop());
      resolve();
    }
  });
}

test("React draws the documents after each batch, and the state", async (t) => {
  const { brook, live, answer } = await pond(t);
  let draws = 0;
  function Creatures() {
    draws += 1;
    const { documents, state, error } = useLive(brook.live("creatures"));
    return createElement("p", null, state, " ", documents?.map(({ type }) => type).join() ?? "none", error && ` ${error.code}`);
  }
  assert.equal(renderToString(createElement(Creatures)), "<p>connecting<!-- --> <!-- -->none</p>");
  const element = page.document.createElement("div");
  const root = createRoot(element);
  await act(() => root.render(createElement(StrictMode, null, createElement(Creatures))));
  assert.equal(element.textContent, "connecting none");
  const { stream, change } = await answer(doc(1, "crawdad"));
  await act(() => when(live, () => live.state === "live"));
  assert.equal(element.textContent, "live crawdad");
  const before = draws;
  change({ op: "upsert", id: 2, doc: doc(2, "newt") }, { op: "upsert", id: 3, doc: doc(3, "otter") });
  await act(() => when(live, () => live.documents.length === 3));
  assert.equal(element.textContent, "live crawdad,newt,otter");
  assert.equal(draws - before, 2, "one draw a batch; StrictMode doubles it");
  stream.cut();
  await act(() => when(live, () => live.state === "reconnecting"));
  assert.equal(element.textContent, "reconnecting crawdad,newt,otter cut");
  await act(() => root.unmount());
});

test("Vue follows a query, and another one when its getter says so", async (t) => {
  const { brook, answer } = await pond(t);
  const name = shallowRef("creatures");
  const scope = effectScope();
  const { documents, state, error } = scope.run(() => useInVue(() => brook.live(name.value)));
  const told = (isSo) =>
    new Promise((resolve) => {
      scope.run(() => watch([documents, state], () => isSo() && resolve(), { immediate: true, flush: "sync" }));
    });
  assert.deepEqual([documents.value, state.value, error.value], [null, "connecting", null]);
  const { change } = await answer(doc(1, "crawdad"));
  await told(() => state.value === "live");
  assert.deepEqual(documents.value, [doc(1, "crawdad")]);
  change({ op: "remove", id: 1 });
  await told(() => documents.value.length === 0);
  change({ op: "upsert", id: 4, doc: doc(4, "newt") });
  await told(() => documents.value.length === 1);
  name.value = "herons";
  await nextTick();
  assert.deepEqual(documents.value, [doc(4, "newt")], "no flash in between");
  scope.stop();
});

test("a Svelte store has the documents and the state from its first subscriber to its last", async (t) => {
  const { live, answer } = await pond(t);
  const seen = [];
  const stop = liveStore(live).subscribe(({ documents, state }) => seen.push([state, documents?.length ?? null]));
  assert.deepEqual(seen, [["connecting", null]]);
  const { stream, change } = await answer(doc(1), doc(2));
  await when(live, () => live.state === "live");
  assert.deepEqual(seen.at(-1), ["live", 2]);
  change({ op: "remove", id: 1 });
  await when(live, () => live.documents.length === 1);
  assert.deepEqual(seen.at(-1), ["live", 1]);
  stop();
  await stream.left;
});

test("a list in the DOM keeps the nodes of what is unchanged", async (t) => {
  const { live, answer } = await pond(t);
  const list = page.document.createElement("ol");
  const renders = [];
  const stop = showList(live, list, ({ _id, type }, old) => {
    renders.push(_id);
    const item = old ?? page.document.createElement("li");
    item.textContent = type;
    return item;
  });
  const { change } = await answer(doc(1, "crawdad"), doc(2, "newt"), doc(3, "otter"));
  await when(live, () => list.children.length === 3);
  const [one, two, three] = list.children;
  change({ op: "upsert", id: 3, doc: doc(3, "old otter"), before: 1 }, { op: "remove", id: 2 });
  await when(live, () => list.children.length === 2);
  assert.deepEqual([...list.children], [three, one]);
  assert.equal(list.textContent, "old ottercrawdad");
  assert.deepEqual(renders, [1, 2, 3, 3]);
  assert.equal(two.parentNode, null);
  stop();
});

test("a TanStack collection has the documents, joins them, and keeps an optimistic one until it is there", async (t) => {
  const { brook, live, answer } = await pond(t);
  const collection = createCollection(
    brookCollectionOptions({ live, id: "creatures", onInsert: () => brook.reached("t9.0") }),
  );
  const newts = createLiveQueryCollection((query) =>
    query.from({ creature: collection }).where(({ creature }) => eq(creature.type, "newt")),
  );
  const ready = newts.preload();
  const { stream, change } = await answer(doc(1, "newt"), doc(2, "otter"));
  await ready;
  const shown = () => newts.toArray.map(({ _id }) => _id).sort();
  assert.deepEqual(shown(), [1]);
  change({ op: "upsert", id: 2, doc: doc(2, "newt") }, { op: "upsert", id: 3, doc: doc(3, "newt") });
  await when(live, () => shown().length === 3);
  change({ op: "remove", id: 1 }, { op: "remove", id: 99 });
  await when(live, () => shown().length === 2);
  const written = collection.insert(doc(4, "newt"));
  const seen = [shown()];
  const watching = newts.subscribeChanges(() => seen.push(shown()));
  assert.deepEqual(seen, [[2, 3, 4]]);
  // The position that is waited for comes on a new connection, with the document.
  await stream.left;
  const next = await answer.again();
  next.event("changes", { of: next.tags.q0, changes: [{ op: "upsert", id: 4, doc: doc(4, "newt") }] }).commit("t9.0");
  await written.isPersisted.promise;
  await when(live, () => live.documents.length === 3);
  assert.ok(seen.every((ids) => ids.includes(4)), "it was gone in between");
  watching.unsubscribe();
  await Promise.all([newts.cleanup(), collection.cleanup()]);
});

test("the package has the connection and its errors, too", async (t) => {
  const server = await serve(t);
  const stream = new EventStream(`${server.url}stream`);
  (await server.stream()).refuse(404, { code: "not-found", detail: "nothing here" });
  while (stream.state !== "ended") await new Promise(setImmediate);
  assert.ok(stream.error instanceof Problem);
});
