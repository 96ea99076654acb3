/** The form: the parameters of the stream, and the link and the command for the same stream. */

// The parameters with a form field. The page alone uses `stream`: its value becomes part of the path.
const NAMES = ["stream", "filter", "fields", "format"];

const COPIED_MS = 3_000;

const $ = (id) => document.getElementById(id);

/** The URL of the stream for the page's query: `?stream=orders&ops=delete` is `stream/orders?ops=delete`. */
export function streamOf(query) {
  const wishes = new URLSearchParams(query);
  const name = wishes.get("stream");
  wishes.delete("stream");
  const url = new URL(name ? `stream/${encodeURIComponent(name)}` : "stream", document.baseURI);
  url.search = wishes;
  return url;
}

/** The shell command that follows a stream, with quoted arguments. */
export function commandFor(url) {
  const words = ["curl", "-N", ...(url.search ? ["-G"] : []), url.origin + url.pathname];
  for (const [name, value] of url.searchParams) {
    words.push("--data-urlencode", `${encodeURIComponent(name)}=${value}`);
  }
  return words.map(quoted).join(" ");
}

/** Fill in the form from the page's URL. Each submit calls `connect` with the URL of the stream. */
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

/** Show the reason for a refused stream beside the form; an empty string clears it. */
export function refuse(why) {
  $("refusal").textContent = why;
  if (why) $("choose").open = true;
}

/** The page's query, with the parameters of the form replaced by the form's values. */
function wishesOf(form) {
  const wishes = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const text = form.elements[name].value.trim();
    // People type a space after a comma; hardly any field name starts with one.
    const value = name === "fields" ? text.replace(/\s*,\s*/g, ",") : text;
    if (value) wishes.set(name, value);
    else wishes.delete(name);
  }
  return wishes;
}

/** Show the command and the link for the current values of the form. */
function show(wishes) {
  $("command").textContent = commandFor(streamOf(wishes));
  $("link").href = linkOf(wishes);
}

/** Show a summary of the submitted parameters, including parameters without a form field. */
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
    // Browsers deny the clipboard to a page loaded over plain HTTP from another host: use execCommand.
    getSelection().selectAllChildren(command);
    copied = document.execCommand("copy");
  }
  $("copied").textContent = copied ? "Copied" : "Selected: copy it with the keyboard";
  setTimeout(() => ($("copied").textContent = ""), COPIED_MS);
}

/** Quote a word for a shell. Between single quotes, only the quote itself is special. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
