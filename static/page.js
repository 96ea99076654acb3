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

const isEvents = view === "events" || !streams.length;
const shown = isEvents ? "events" : "documents";
document.documentElement.dataset.view = shown;
document.querySelector(`nav a[href="?view=${shown}"]`).ariaCurrent = "page";
if (isEvents) {
  await import("./events.js");
} else {
  const { Explorer } = await import("./explorer.js");
  new Explorer(streams);
}
