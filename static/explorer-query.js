/** The form of the explorer: collection, filter, sort and fields, read as they are typed. */

/** @typedef {{ name: string, collection: string | null, modes: string[], fields: string[] | null }} Stream */
/** @typedef {{ stream: string, filter: string, sort: string, fields: string }} Texts */

const NAMES = /** @type {const} */ (["stream", "filter", "sort", "fields"]);

// A pause in the typing. A half-typed word must not be reported as an error.
const TYPING_MS = 400;

// The newest documents first, in most collections.
const NEWEST = '{"_id": -1}';

// The largest `limit` that the server takes.
export const WINDOW = 1_000;

/** The server's root, also below a path of a proxy: this file is in its folder static. */
export const ROOT = new URL("../", import.meta.url);

/** @typedef {import("./login.js").Login} Login */

/**
 * The streams that a live query can be opened on, and whether the server takes documents for its sandbox; null if the
 * server does not say.
 * @param {Login} login
 * @returns {Promise<{ streams: Stream[], sandbox: boolean } | null>}
 */
export async function listStreams(login) {
  try {
    const answer = await login.fetch(new URL("streams", ROOT));
    login.look(answer);
    if (answer.status === 404) return { streams: [], sandbox: false }; // a server without live queries
    if (!answer.ok) return null;
    const { streams, sandbox = false } = await answer.json();
    const live = streams
      .filter((/** @type {Stream} */ { modes, collection }) => collection && modes.includes("live"))
      .map((/** @type {Stream} */ stream) => ({ ...stream, name: stream.name || "default" }));
    return { streams: live, sandbox };
  } catch {
    return null;
  }
}

/**
 * The parameters of a text, or the problem with it, as the server puts it.
 * @param {Texts} texts
 * @param {Login} login
 * @returns {Promise<{ options: Record<string, any> } | { refusal: string }>}
 */
export async function read({ stream, filter, sort, fields }, login) {
  try {
    const options = {
      filter: filter ? JSON.parse(filter) : undefined,
      sort: sort ? JSON.parse(sort) : undefined,
      limit: sort ? WINDOW : undefined,
      fields: fields || undefined,
    };
    return { options };
  } catch (error) {
    return { refusal: await refusal(parametersOf({ stream, filter, sort, fields }), String(error), login) };
  }
}

/** @param {URL} url @param {string} otherwise @param {Login} login */
async function refusal(url, otherwise, login) {
  try {
    const answer = await login.fetch(url);
    const { detail } = await answer.json();
    return detail ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * The address of the documents or, with `mode`, of the stream of a query.
 * @param {Texts} texts @param {string} [mode]
 */
export function parametersOf({ stream, filter, sort, fields }, mode) {
  const url = new URL(`${mode ? "stream" : "documents"}/${encodeURIComponent(stream)}`, ROOT);
  const wanted = { mode, filter, sort, limit: sort && String(WINDOW), fields };
  for (const [name, value] of Object.entries(wanted)) if (value) url.searchParams.set(name, value);
  return url;
}

export class QueryForm {
  #form;
  #refusal;
  #chosen = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLFormElement} form
   * @param {readonly Stream[]} streams
   * @param {() => void} onChange  called when the typing pauses
   */
  constructor(form, streams, onChange) {
    this.#form = form;
    this.#refusal = /** @type {HTMLElement} */ (form.querySelector("[role=alert]"));
    const asked = new URLSearchParams(location.search);
    this.list(streams, asked.get("stream") ?? "");
    if (asked.has("sort")) this.#field("sort").value = asked.get("sort") ?? "";
    for (const name of /** @type {const} */ (["filter", "fields"])) this.#field(name).value = asked.get(name) ?? "";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#later(onChange, 0);
    });
    form.addEventListener("input", ({ target }) => {
      this.#later(onChange, target === this.#field("stream") ? 0 : TYPING_MS);
    });
  }

  /**
   * Offer these streams; without any, a name can be typed.
   * @param {readonly Stream[]} streams @param {string} [name] the one to choose
   */
  list(streams, name = this.texts.stream) {
    const names = streams.map((stream) => stream.name);
    const first = name || (names[0] ?? "");
    const field = this.#field("stream");
    const { id } = field;
    const choice = Object.assign(document.createElement(names.length ? "select" : "input"), { id, name: "stream" });
    if (choice instanceof HTMLSelectElement) {
      choice.replaceChildren(...[...new Set([...names, first])].map((one) => new Option(one, one)));
    } else Object.assign(choice, { spellcheck: false, autocapitalize: "none", placeholder: "its name" });
    choice.value = first;
    field.replaceWith(choice);
    if (first === this.#chosen) return;
    this.#chosen = first;
    // A server that lets a client sort on few fields need not let it sort on _id.
    const isFree = streams.find((stream) => stream.name === first)?.fields === null;
    this.#field("sort").value = isFree ? NEWEST : "";
  }

  /** @returns {Texts} */
  get texts() {
    const [stream, filter, sort, fields] = NAMES.map((name) => this.#field(name).value.trim());
    // People type a space after a comma; hardly any field name starts with one.
    return { stream: stream ?? "", filter: filter ?? "", sort: sort ?? "", fields: (fields ?? "").replace(/\s*,\s*/g, ",") };
  }

  /**
   * Show why the query is refused, beside the field that is meant; an empty string clears it.
   * @param {string} why
   */
  refuse(why) {
    this.#refusal.textContent = why;
    const meant = why && (NAMES.find((name) => new RegExp(`\\b${name}\\b`).test(why)) ?? "filter");
    for (const name of NAMES) this.#field(name).ariaInvalid = String(name === meant);
  }

  /** The page's address for the same query, for a reload or a colleague. */
  get link() {
    const url = new URL(location.href);
    url.search = new URLSearchParams({ view: "documents", ...this.texts }).toString();
    return url.href;
  }

  /** @param {() => void} onChange @param {number} ms */
  #later(onChange, ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onChange, ms);
  }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement | HTMLSelectElement} */ (this.#form.elements.namedItem(name));
  }
}
