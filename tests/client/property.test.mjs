// Random writers, cuts, lost logs, tabs and queries that come and go: whatever a page shows was true at one time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Brook } from "../../static/brook.js";
import { PondServer, windowChanges } from "../support/pond_server.mjs";
import { generator } from "../support/listening.mjs";

const STEPS = 400;
const TOTAL = 1_000;
const SEEDS = (process.env.SEEDS ?? "1,2,3").split(",").map(Number);

const WANTED = [
  ["ponds", {}],
  ["ponds", { filter: { kind: "newt" } }],
  ["ponds", { sort: { size: -1 }, limit: 4 }],
  ["ponds", { filter: { kind: "otter" }, sort: { size: 1 }, limit: 3 }],
];

const text = (documents) => JSON.stringify(documents);
const unordered = (documents) => text([...documents].sort((one, other) => one._id - other._id));

for (const options of [{ bundle: false }, { share: false }, { share: "property" }]) {
  for (const seed of SEEDS) {
    test(`${JSON.stringify(options)}, seed ${seed}`, { timeout: 60_000 }, async (t) => {
      const server = await new PondServer().start();
      t.after(() => server.close());
      const random = generator(seed);
      const below = (limit) => Math.floor(random() * limit);
      const history = new Map(); // by query: what find() has ever given, and when
      const shown = { batches: 0 };

      const remember = () => {
        for (const [stream, wanted] of WANTED) {
          const key = JSON.stringify(wanted);
          const found = server.pond.find({ stream, ...wanted });
          if (!history.has(key)) history.set(key, new Map());
          history.get(key).set(wanted.sort ? text(found) : unordered(found), server.pond.time);
        }
      };
      const write = (...writes) => {
        const position = server.write(...writes);
        remember();
        return position;
      };
      // Two accounts, in two collections: one transaction after the other moves money between them.
      let left = TOTAL;
      const transfer = () => {
        left = below(TOTAL);
        return write(["left", 1, { money: left }], ["right", 1, { money: TOTAL - left }]);
      };
      const change = () => {
        const id = below(12);
        const doc = below(4) ? { kind: ["newt", "otter"][below(2)], size: below(5) } : null;
        // The first document stays, so that the page must never be empty.
        return write(["ponds", id, id === 0 ? { kind: "newt", size: 1 } : doc]);
      };
      write(["ponds", 0, { kind: "newt", size: 1 }], ["left", 1, { money: 0 }], ["right", 1, { money: TOTAL }]);

      class Tab {
        brook = new Brook(server.url, { bundle: true, ...options });
        stops = new Map();
        changes = [];
        constructor() {
          this.brook.changes("ponds").subscribe((one) => this.changes.push(one));
          const accounts = [this.brook.live("left"), this.brook.live("right")];
          const check = () => {
            const [one, other] = accounts.map(({ documents }) => documents?.[0]?.money);
            if (options.bundle === false || one === undefined || other === undefined) return;
            assert.equal(one + other, TOTAL, "half of a transaction is shown");
          };
          for (const account of accounts) account.subscribe(check);
          this.accounts = accounts;
        }
        toggle() {
          const [stream, wanted] = WANTED[below(WANTED.length)];
          const key = JSON.stringify(wanted);
          const live = this.brook.live(stream, wanted);
          if (this.stops.has(key)) {
            this.stops.get(key).stop();
            this.stops.delete(key);
            return;
          }
          let last = 0;
          const stop = live.subscribe((documents) => {
            shown.batches += 1;
            const time = history.get(key).get(wanted.sort ? text(documents) : unordered(documents));
            assert.ok(time !== undefined, `${key} was never ${text(documents)}`);
            assert.ok(key !== "{}" || documents.length > 0, "a flash of nothing");
            last = Math.max(last, time);
          });
          this.stops.set(key, { stop, live, stream, wanted });
        }
      }

      const errors = [];
      t.mock.method(console, "error", (error) => errors.push(error));
      const tabs = [new Tab(), new Tab()];
      t.after(() => tabs.forEach(({ brook }) => brook.close()));
      const pause = () => new Promise((resolve) => setTimeout(resolve, below(4)));
      for (let step = 0; step < STEPS && !errors.length; step += 1) {
        const dice = below(40);
        if (dice < 22) change();
        else if (dice < 30) transfer();
        else if (dice < 34) tabs[below(tabs.length)].toggle();
        else if (dice < 36) server.cut();
        else if (dice === 36 && tabs.length < 4) tabs.push(new Tab());
        else if (dice === 37 && tabs.length > 1) tabs.splice(below(tabs.length), 1)[0].brook.close();
        else if (dice === 38 && below(4) === 0) server.pond.forget();
        await pause();
      }
      assert.deepEqual(errors, []);
      for (const tab of tabs) if (!tab.stops.size) tab.toggle();
      const end = change();
      for (const tab of tabs) {
        await tab.brook.reached(end);
        for (const { live, stream, wanted } of tab.stops.values()) {
          const found = server.pond.find({ stream, ...wanted });
          assert.equal(wanted.sort ? text(live.documents) : unordered(live.documents), wanted.sort ? text(found) : unordered(found));
        }
        assert.deepEqual(tab.accounts.map(({ documents }) => documents[0].money), [left, TOTAL - left]);
        const times = tab.changes.filter(({ op }) => op !== "reset").map(({ time }) => Number(time.slice(1, -2)));
        assert.deepEqual(times, [...new Set(times)].sort((one, other) => one - other), "a change came twice, or late");
        if (!tab.changes.some(({ op }) => op === "reset")) assert.ok(isWithoutGap(times, server.pond.log), "a change was lost");
      }
      assert.deepEqual(errors, []);
      assert.ok(shown.batches > 50, `${shown.batches}`);
    });
  }
}

/** Every batch in "ponds" that the log still has, from the first that was seen on. */
function isWithoutGap(times, log) {
  const seen = new Set(times);
  const expected = log.filter(({ time, batch }) => time >= times[0] && batch.some(({ stream }) => stream === "ponds"));
  return expected.every(({ time, batch }) => seen.has(time) || batch.every(({ before, after }) => !before && !after));
}

test("the changes of the model lead from any window to any other", () => {
  const random = generator(5);
  const draw = () => {
    const ids = [1, 2, 3, 4, 5, 6].sort(() => random() - 0.5).slice(0, Math.floor(random() * 7));
    return ids.map((_id) => ({ _id, n: Math.floor(random() * 3) }));
  };
  for (let round = 0; round < 500; round += 1) {
    const [old, now] = [draw(), draw()];
    let held = [...old];
    for (const { op, id, doc, before } of windowChanges(old, now)) {
      held = held.filter(({ _id }) => _id !== id);
      if (op === "remove") continue;
      held.splice(before === null ? held.length : held.findIndex(({ _id }) => _id === before), 0, doc);
    }
    assert.deepEqual(held, now);
  }
});
