/** The form: what to ask the stream for, and the same as a link and as a command. */

// What the form has a field for. `stream` is the page's own word: its value becomes part of the path.
const NAMES = ["stream", "filter", "fields", "format"];

const COPIED_MS = 3_000;

const $ = (id) => document.getElementById(id);

/** The stream that the page's query stands for: `?stream=orders&ops=delete` is `stream/orders?ops=delete`. */
export function streamOf(query) {
  const wishes = new URLSearchParams(query);
  const name = wishes.get("stream");
  wishes.delete("stream");
  const url = new URL(name ? `stream/${encodeURIComponent(name)}` : "stream", document.baseURI);
  url.search = wishes;
  return url;
}

/** The command that follows a stream, in words that a shell leaves as they are. */
export function commandFor(url) {
  const words = ["curl", "-N", ...(url.search ? ["-G"] : []), url.origin + url.pathname];
  for (const [name, value] of url.searchParams) {
    words.push("--data-urlencode", `${encodeURIComponent(name)}=${value}`);
  }
  return words.map(quoted).join(" ");
}

/** Fill in the form from the page's address. `connect` is called with the stream whenever it is sent. */
export function setUp(connect) {
  const form = $("wishes");
  const asked = new URLSearchParams(location.search);
  for (const name of NAMES) form.elements[name].value = asked.get(name) ?? "";
  show(asked);
  sum(asked);

  form.addEventListener("input", () => show(wishesOf(form)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(wishesOf(form));
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of NAMES) form.elements[name].value = "";
    send(new URLSearchParams());
  });
  $("copy").addEventListener("click", copy);

  function send(wishes) {
    history.replaceState(null, "", linkOf(wishes));
    show(wishes);
    sum(wishes);
    connect(streamOf(wishes));
  }
}

/** Say beside the form why the server does not give what was asked for; nothing, once it does. */
export function refuse(why) {
  $("refusal").textContent = why;
  if (why) $("choose").open = true;
}

/** The page's own query, with what the form says in place of what it said of it. */
function wishesOf(form) {
  const wishes = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const text = form.elements[name].value.trim();
    // People put a space after a comma; a field's name hardly begins with one.
    const value = name === "fields" ? text.replace(/\s*,\s*/g, ",") : text;
    if (value) wishes.set(name, value);
    else wishes.delete(name);
  }
  return wishes;
}

/** What the form says now, before it is sent. */
function show(wishes) {
  $("command").textContent = commandFor(streamOf(wishes));
  $("link").href = linkOf(wishes);
}

/** What was sent, also what the form has no field for. */
function sum(wishes) {
  $("chosen").textContent = [...wishes].map((pair) => pair.join("=")).join("  ");
}

function linkOf(wishes) {
  const url = new URL(location);
  url.search = wishes;
  return url.href;
}

async function copy() {
  const command = $("command");
  let copied = true;
  try {
    await navigator.clipboard.writeText(command.textContent);
  } catch {
    // There is no clipboard for a page that came over plain HTTP from elsewhere: the old way.
    getSelection().selectAllChildren(command);
    copied = document.execCommand("copy");
  }
  $("copied").textContent = copied ? "Copied" : "Selected: copy it with the keyboard";
  setTimeout(() => ($("copied").textContent = ""), COPIED_MS);
}

/** Nothing is special to a shell between single quotes, but the quote itself. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
