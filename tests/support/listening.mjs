// What the client's tests share: servers and clients that end with their test, and listeners that wait.

import { FakeServer, Queue } from "./fake_server.mjs";

/** A fake server for one test. */
export async function serve(t) {
  const server = await FakeServer.start();
  t.after(() => server.close());
  return server;
}

/** Everything that a listener is called with, to be waited for. */
export function listener() {
  const calls = new Queue();
  const listen = (...news) => calls.put(news);
  listen.next = () => calls.take();
  listen.waiting = () => calls.length;
  return listen;
}

/** Resolves when a state is reached; fails the test's time limit otherwise. */
export function until(target, isSo) {
  return new Promise((resolve) => {
    const look = () => {
      if (!isSo(target)) return;
      target.removeEventListener("statechange", look);
      resolve();
    };
    target.addEventListener("statechange", look);
    look();
  });
}

/** The next so many items of an async iterator. */
export async function take(iterator, count) {
  const items = [];
  while (items.length < count) items.push((await iterator.next()).value);
  return items;
}

/** Mulberry32: the same numbers in each run. */
export function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
