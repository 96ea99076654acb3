/**
 * The page: the documents of a collection, or the bare events of a stream.
 *
 * `?view=documents` and `?view=events` choose. Without them, an address with parameters of a stream means events;
 * so does a server without live queries, such as the demo. Where the server refuses to list its streams, their names can
 * be typed.
 */

import { setUpInsert } from "./explorer-insert.js";
import { listStreams } from "./explorer-query.js";
import { setUpServer } from "./explorer-server.js";
import { Login } from "./login.js";

const asked = new URLSearchParams(location.search);
const view = asked.get("view") ?? (asked.size ? "events" : "");

const login = new Login();

// The events need no list of the streams, and must not wait for one.
const listed = view === "events" ? { streams: [], sandbox: false } : await listStreams(login);

// A list that is empty for now may be longer with a token.
const isEvents = view === "events" || (listed !== null && !listed.streams.length && !login.isOffered);
const shown = isEvents ? "events" : "documents";
document.documentElement.dataset.view = shown;
document.querySelector(`nav a[href="?view=${shown}"]`).ariaCurrent = "page";
if (isEvents) {
  const { follow } = await import("./events.js");
  follow(login);
} else {
  const { Explorer } = await import("./explorer.js");
  const explorer = new Explorer(listed?.streams ?? [], login);
  setUpServer(document.getElementById("server"));
  if (listed?.sandbox) setUpInsert(document.getElementById("insert"), () => explorer.stream);
}
