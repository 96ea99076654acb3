/** The form: the parameters of the stream, and the link and the command for the same stream. */

import { commandFor, copyText } from "./command.js";

// The parameters with a form field. The page alone uses `stream`: its value becomes part of the path.
const NAMES = ["stream", "filter", "fields", "format"];

const COPIED_MS = 3_000;

const $ = (id) => document.getElementById(id);

/** The URL of the stream for the page's query: `?stream=orders&ops=delete` is `stream/orders?ops=delete`. */
export function streamOf(query) {
  const wishes = new URLSearchParams(query);
  const name = wishes.get("stream");
  wishes.delete("stream");
  wishes.delete("view");
  const url = new URL(name ? `stream/${encodeURIComponent(name)}` : "stream", document.baseURI);
  url.search = wishes;
  return url;
}

/**
 * Fill in the form from the page's URL. Each submit calls `connect` with the URL of the stream. `takesToken` says whether
 * the command needs one.
 */
export function setUp(connect, takesToken) {
  const form = $("wishes");
  const asked = new URLSearchParams(location.search);
  for (const name of NAMES) form.elements[name].value = asked.get(name) ?? "";
  const show = (wishes) => showAsCode(wishes, takesToken());
  show(asked);
  $("choose").addEventListener("toggle", () => show(wishesOf(form)));
  sum(asked);

  form.addEventListener("input", () => show(wishesOf(form)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(wishesOf(form));
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of NAMES) form.elements[name].value = "";
    send(new URLSearchParams({ view: "events" }));
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
function showAsCode(wishes, withToken) {
  $("command").textContent = commandFor(streamOf(wishes), withToken);
  $("link").href = linkOf(wishes);
}

/** Show a summary of the submitted parameters, including parameters without a form field. */
function sum(wishes) {
  $("chosen").textContent = [...wishes].filter(([name]) => name !== "view").map((pair) => pair.join("=")).join("  ");
}

function linkOf(wishes) {
  const url = new URL(location);
  url.search = wishes;
  return url.href;
}

async function copy() {
  $("copied").textContent = await copyText($("command"));
  setTimeout(() => ($("copied").textContent = ""), COPIED_MS);
}
