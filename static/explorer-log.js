/** The log beside the table: one item for each change, with the fields before and after. */

import { differences, shortText } from "./explorer-value.js";
import { element } from "./explorer-table.js";

/** @typedef {import("./explorer-rows.js").Step} Step */
/** @typedef {{ name: string, key: string, id: string, time: string, lines: string[][] }} Entry */

// As many as a person scrolls through. An entry holds text, not documents, which may be large.
const MAX_ENTRIES = 100;
const MAX_FIELDS = 8;

export class ChangeLog {
  #list;
  #onOpen;
  /** @type {Entry[]} */
  #waiting = [];

  /**
   * @param {HTMLElement} list
   * @param {(key: string) => void} onOpen
   */
  constructor(list, onOpen) {
    this.#list = list;
    this.#onOpen = onOpen;
    list.addEventListener("click", ({ target }) => {
      const key = /** @type {HTMLElement} */ (target).closest("button")?.dataset.key;
      if (key !== undefined) this.#onOpen(key);
    });
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
  }

  /** @param {readonly Step[]} steps @param {Date} time */
  take(steps, time) {
    // A change that would be pushed out at once is not even compared.
    for (const step of steps.slice(-MAX_ENTRIES)) this.#waiting.push(entry(step, time));
    if (this.#waiting.length > MAX_ENTRIES) this.#waiting.splice(0, this.#waiting.length - MAX_ENTRIES);
  }

  /** Something that is not a change of one document. @param {string} text @param {Date} time */
  note(text, time) {
    this.#waiting.push({ name: "note", key: "", id: text, time: time.toLocaleTimeString(), lines: [] });
  }

  /** Newest first. */
  draw() {
    if (!this.#waiting.length) return;
    this.#list.prepend(...this.#waiting.splice(0).reverse().map(item));
    while (this.#list.childElementCount > MAX_ENTRIES) this.#list.lastElementChild?.remove();
  }
}

/** @param {Step} step @param {Date} time @returns {Entry} */
function entry({ op, why, id, key, before, after }, time) {
  const found = op === "remove" && why === "leave" ? [] : differences(before, after);
  const lines = found
    .filter(({ path }) => path !== "_id")
    .slice(0, MAX_FIELDS)
    .map(({ path, before: one, after: other }) => [path, shortText(one), shortText(other)]);
  if (found.length > MAX_FIELDS) lines.push([`${found.length - MAX_FIELDS} more fields`, "", ""]);
  return { name: why, key, id: shortText(id), time: time.toLocaleTimeString(), lines };
}

/** @param {Entry} entry */
function item({ name, key, id, time, lines }) {
  const li = element("li", "", { className: name });
  if (name === "note") li.append(element("span", id));
  else {
    const button = element("button", id, { type: "button" });
    button.dataset.key = key;
    li.append(element("b", name), " ", button);
  }
  li.append(" ", element("time", time));
  for (const [path, before, after] of lines) {
    const line = element("p", "");
    line.append(element("span", `${path} `, { className: "path" }));
    if (before) line.append(element("del", before), " ");
    if (after) line.append(element("ins", after));
    li.append(line);
  }
  return li;
}
