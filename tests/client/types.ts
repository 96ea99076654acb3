// Compiled, never run: what the types of the client allow, and what they refuse.

import { Brook, Problem, type Change, type Reset } from "../../static/brook.js";
import { EventParser, EventStream } from "../../static/brook-stream.js";
import { showList } from "../../client/dom.js";
import { useLive as useInReact } from "../../client/react.js";
import { brookCollectionOptions } from "../../client/tanstack.js";
import { liveStore } from "../../client/svelte.js";
import { useLive as useInVue } from "../../client/vue.js";

interface Creature {
  _id: string;
  type: string;
  size?: number;
}

const brook = new Brook("/", { token: async () => "...", credentials: "include", signal: new AbortController().signal });
new Brook();
new Brook(new URL("https://brook.example.org"), { token: () => null, bundle: false, keepAliveSeconds: 30 });

const crawdads = brook.live<Creature>("creatures", {
  filter: { type: "crawdad", size: { $gt: 3 } },
  sort: { size: -1, _id: 1 },
  limit: 50,
  fields: ["type", "size"],
});

const stop: () => void = crawdads.subscribe((documents, { changes, reason }) => {
  const sizes: (number | undefined)[] = documents.map(({ size }) => size);
  for (const change of changes ?? []) {
    if (change.op === "upsert") change.doc.type.toUpperCase();
    // @ts-expect-error a removed document is gone
    else change.doc;
  }
  reason?.toUpperCase();
  // @ts-expect-error the documents are frozen
  documents.push({ _id: "x", type: "newt" });
  return sizes;
});
stop();

const none: readonly Creature[] | null = crawdads.documents;
// @ts-expect-error nothing is there before the first snapshot
crawdads.documents.length;

// Without a type of the page's own, a document is anything with an _id.
brook.live("creatures").subscribe(([first]) => first?.whatever?.deep);

// @ts-expect-error a direction is 1 or -1
brook.live("creatures", { sort: { size: "down" } });
// @ts-expect-error a misspelt option
brook.live("creatures", { filtre: {} });
// @ts-expect-error a live query has no operations
brook.live("creatures", { ops: ["insert"] });

brook.count("creatures", { every: 500 }).subscribe((count) => count.toFixed());

async function follow(): Promise<void> {
  for await (const change of brook.changes<Creature>("creatures", { ops: ["insert", "delete"], before: true })) {
    if (change.op === "reset") change.reason.toUpperCase();
    else change.doc?.type.toUpperCase();
  }
  await brook.reached("t1795328801.7", { signal: AbortSignal.timeout(5_000) });
}

const told = (change: Change<Creature> | Reset): string => change.op;
brook.changes<Creature>("creatures").subscribe(told, { signal: AbortSignal.timeout(1) });

brook.addEventListener("statechange", () => {
  const code: string | undefined = brook.error?.code;
  if (brook.state === "interrupted") console.log(brook.why, code);
  // @ts-expect-error there is no such state
  if (brook.state === "paused") brook.reconnect();
});
brook.close();

const problem: Problem | null = crawdads.error;
// @ts-expect-error it is read, not written
crawdads.state = "live";

const stream = new EventStream("/stream", { since: "now", onEvent: ({ type, data, id }) => [type, data, id] });
new EventStream(({ position }) => ({ url: "/stream", headers: { "Last-Event-ID": position } }));
new EventParser(({ data }) => data?.length).feed(new Uint8Array());
stream.reconnect();

const inReact: { documents: readonly Creature[] | null } = useInReact(crawdads);
useInVue(() => crawdads).documents.value?.at(0)?.type;
liveStore(crawdads).subscribe(({ documents, state }) => [documents?.length, state]);
brookCollectionOptions({ live: crawdads, id: "crawdads" }).getKey({ _id: "x", type: "newt" });
showList(crawdads, document.body, (doc, node: HTMLLIElement | undefined) => {
  const item = node ?? document.createElement("li");
  item.textContent = doc.type;
  return item;
});

export { follow, inReact, none, problem };
