/** TanStack DB: `createCollection(brookCollectionOptions({ live: brook.live("creatures") }))`. Made for 0.15. */

/** A collection of a live query's documents; everything but `live` is TanStack's own, such as `onInsert`. */
export function brookCollectionOptions({ live, ...config }) {
  return { getKey: ({ _id }) => _id, ...config, sync: { rowUpdateMode: "full", sync: (sync) => follow(live, sync) } };
}

function follow(live, { begin, write, commit, truncate, markReady, markError }) {
  let held = new Set();
  const put = (value) => {
    write({ type: held.has(value._id) ? "update" : "insert", value });
    held.add(value._id);
  };
  const stop = live.subscribe((documents, { changes }) => {
    begin();
    if (!changes) {
      truncate();
      held = new Set();
      documents.forEach(put);
    }
    for (const { op, id, doc } of changes ?? []) {
      if (op === "upsert") put(doc);
      else if (held.delete(id)) write({ type: "delete", key: id });
    }
    commit();
    markReady();
  });
  const ended = () => live.state === "ended" && markError(live.error);
  live.addEventListener("statechange", ended);
  return () => {
    stop();
    live.removeEventListener("statechange", ended);
  };
}
