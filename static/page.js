/**
 * The page: the documents of a collection, or the bare events of a stream.
 *
 * `?view=documents` and `?view=events` choose. Without them, an address with parameters of a stream means events;
 * so does a server without live queries, such as the demo.
 */

import { liveStreams } from "./explorer-query.js";

const asked = new URLSearchParams(location.search);
const view = asked.get("view") ?? (asked.size ? "events" : "");

// The events need no list of the streams, and must not wait for one.
const streams = view === "events" ? [] : await liveStreams().catch(() => []);

if (view === "events" || !streams.length) {
  document.documentElement.dataset.view = "events";
  await import("./events.js");
} else {
  document.documentElement.dataset.view = "documents";
  const { Explorer } = await import("./explorer.js");
  new Explorer(streams);
}
