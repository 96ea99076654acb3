// Other clients: which of them see a checkpoint, and what they do with it. docs/clients.md has the table.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventStream } from "../../static/brook-stream.js";
import { serve } from "../support/listening.mjs";

// fetch-event-source asks for a window and a document.
const document = { hidden: false, addEventListener() {}, removeEventListener() {} };
Object.assign(globalThis, { window: globalThis, document });

/**
 * Each follows a stream, calls `hear` with the data of each event, and `gone` when it has given up. It returns a
 * function that ends it.
 */
const CLIENTS = {
  "`brook.js`": (url, hear) => {
    const stream = new EventStream(url, { onEvent: ({ data }) => hear(data) });
    return () => stream.close();
  },
  "`eventsource` 5.1": (url, hear) => {
    const source = new EventSource(url);
    source.onmessage = ({ data }) => hear(data);
    return () => source.close();
  },
  "`eventsource-client` 1.2": (url, hear) => {
    const source = createEventSource({ url, onMessage: ({ data }) => hear(data) });
    return () => source.close();
  },
  "`@microsoft/fetch-event-source` 2.0": (url, hear, gone) => {
    const controller = new AbortController();
    fetchEventSource(url, { signal: controller.signal, onmessage: ({ data }) => hear(data) }).then(gone);
    return () => controller.abort();
  },
};

const page = readFileSync(new URL("../../docs/clients.md", import.meta.url), "utf-8");
const rows = [...page.matchAll(/^\| (`[^|]*) \| (after [^|]*) \| (yes|no) \| (yes|no) \|$/gm)].map(([, ...cells]) => cells);

test("the table has these clients", () => {
  assert.deepEqual(rows.map(([name]) => name), Object.keys(CLIENTS));
});

for (const [name, follow] of Object.entries(CLIENTS)) {
  test(`${name} resumes where the table says, and hears what it says`, async (t) => {
    const server = await serve(t);
    const heard = [];
    let told;
    const isThere = new Promise((resolve) => (told = resolve));
    let gone;
    const isGone = new Promise((resolve) => (gone = resolve));
    const hear = (data) => {
      heard.push(data);
      if (data === '"here"') told();
    };
    const stop = follow(`${server.url}stream`, hear, () => gone("no"));
    t.after(stop);
    const stream = (await server.stream()).open("t1.0").event("message", "here", "t2.0-82a");
    stream.checkpoint("t9.0").comment();
    await isThere;
    stream.cut();
    const again = await server.stream();
    again.open();
    again.event("bye", { reason: "shutdown" }).end();
    const comesBack = await Promise.race([isGone, server.stream().then(() => "yes")]);
    const [, ...row] = rows.find(([one]) => one === name);
    const position = { "t9.0": "after the checkpoint", "t2.0-82a": "after the last event" }[again.headers["last-event-id"]];
    assert.deepEqual([position, heard.includes("") ? "yes" : "no", comesBack], row);
  });
}
