/** The form: the parameters of the stream, and the link and the command for the same stream. */

import { commandFor, copyText } from "./command.js";

// The parameters with a form field. The page alone uses `stream`: its value becomes part of the path.
const NAMES = ["stream", "filter", "fields", "format"];

const COPIED_MS = 3_000;

const $ = (id) => document.getElementById(id);

/** The URL of the stream for the page's query: `?stream=orders&ops=delete` is `stream/orders?ops=delete`. */
export function streamOf(query) {
  const parameters = new URLSearchParams(query);
  const name = parameters.get("stream");
  parameters.delete("stream");
  parameters.delete("view");
  const url = new URL(name ? `stream/${encodeURIComponent(name)}` : "stream", document.baseURI);
  url.search = parameters;
  return url;
}

/**
 * Fill in the form from the page's URL. Each submit calls `connect` with the URL of the stream. `takesToken` returns true
 * if the command needs a token.
 */
export function setUp(connect, takesToken) {
  const form = $("stream-form");
  const asked = new URLSearchParams(location.search);
  for (const name of NAMES) form.elements[name].value = asked.get(name) ?? "";
  const show = (parameters) => showAsCode(parameters, takesToken());
  show(asked);
  $("choose").addEventListener("toggle", () => show(parametersOf(form)));
  showSummary(asked);

  form.addEventListener("input", () => show(parametersOf(form)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(parametersOf(form));
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of NAMES) form.elements[name].value = "";
    send(new URLSearchParams({ view: "events" }));
  });
  $("copy").addEventListener("click", copy);

  function send(parameters) {
    history.replaceState(null, "", linkOf(parameters));
    show(parameters);
    showSummary(parameters);
    connect(streamOf(parameters));
  }
}

/** Show the reason for a refused stream beside the form; an empty string clears it. */
export function refuse(why) {
  $("refusal").textContent = why;
  if (why) $("choose").open = true;
}

/** The page's query, with the parameters of the form replaced by the form's values. */
function parametersOf(form) {
  const parameters = new URLSearchParams(location.search);
  for (const name of NAMES) {
    const text = form.elements[name].value.trim();
    // People type a space after a comma; hardly any field name starts with one.
    const value = name === "fields" ? text.replace(/\s*,\s*/g, ",") : text;
    if (value) parameters.set(name, value);
    else parameters.delete(name);
  }
  return parameters;
}

/** Show the command and the link for the current values of the form. */
function showAsCode(parameters, withToken) {
  $("command").textContent = commandFor(streamOf(parameters), withToken);
  $("link").href = linkOf(parameters);
}

/** Show a summary of the submitted parameters, including parameters without a form field. */
function showSummary(parameters) {
  $("chosen").textContent = [...parameters].filter(([name]) => name !== "view").map((pair) => pair.join("=")).join("  ");
}

function linkOf(parameters) {
  const url = new URL(location);
  url.search = parameters;
  return url.href;
}

async function copy() {
  $("copied").textContent = await copyText($("command"));
  setTimeout(() => ($("copied").textContent = ""), COPIED_MS);
}
