/**
 * The rows of the table: the documents of a live query, and what happened to each of them.
 *
 * Knows nothing of the page. Batches come in at any rate; the table reads `list()` when it draws.
 */

import { isEqual } from "./explorer-value.js";

/** @typedef {Record<string, any>} Doc */
/** @typedef {{ key: string, doc: Doc, mark: "" | "entered" | "changed" | "left" | "deleted", until: number, cells: Set<string> }} Row */
/** @typedef {{ op: string, why: string, id: unknown, key: string, before: Doc | undefined, after: Doc | undefined }} Step */

// A table is for reading: more rows are counted, and found with a filter.
export const MAX_ROWS = 2_000;

// How long a change stays marked: long enough for the eye to find it.
const MARK_MS = 1_500;

// Rows on their way out, shown a moment longer. A mass deletion must not keep them all.
const MAX_LEAVING = 200;

/** @type {WeakMap<Doc, string>} */
const keys = new WeakMap();

/**
 * The text of a document's `_id`, which may be an object. It is made once for each document.
 * @param {Doc} doc
 */
function keyOf(doc) {
  let key = keys.get(doc);
  if (key === undefined) keys.set(doc, (key = JSON.stringify(doc._id)));
  return key;
}

export class Rows {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {Row[]} */
  #leaving = [];
  /** @type {readonly Doc[]} */
  #documents = [];
  /** @type {Row[]} */
  #listed = [];
  #isStale = false;

  /** The number of documents in the result set, shown or not. */
  get size() {
    return this.#documents.length;
  }

  /** @param {string} key */
  get(key) {
    return this.#rows.get(key);
  }

  /**
   * Take what a batch brought. Returns the steps from the documents of before to those of now, or null for a
   * new snapshot.
   * @param {readonly Doc[]} documents
   * @param {readonly any[] | null} changes
   * @param {number} now
   * @returns {Step[] | null}
   */
  take(documents, changes, now) {
    this.#documents = documents;
    this.#isStale = true;
    if (changes) return changes.map((change) => this.#step(change, now));
    this.#rows = new Map(documents.map((doc) => [keyOf(doc), unmarked(doc)]));
    this.#leaving = [];
    return null;
  }

  clear() {
    this.take([], null, 0);
  }

  /**
   * The rows in order, with those that left in their old places for a moment.
   * @param {number} now
   */
  list(now) {
    if (this.#isStale || this.#leaving.some((row) => row.until <= now)) this.#order(now);
    return this.#listed;
  }

  /** @param {any} change @param {number} now @returns {Step} */
  #step({ op, why, id, doc }, now) {
    const key = JSON.stringify(id);
    const row = this.#rows.get(key);
    const step = { op, why, id, key, before: row?.doc, after: doc };
    if (op === "remove") {
      if (row) this.#remove(row, why === "delete" ? "deleted" : "left", now);
    } else if (row) update(row, doc, now);
    else this.#rows.set(key, { ...unmarked(doc), mark: "entered", until: now + MARK_MS });
    return step;
  }

  /** @param {Row} row @param {"left" | "deleted"} mark @param {number} now */
  #remove(row, mark, now) {
    this.#rows.delete(row.key);
    Object.assign(row, { mark, until: now + MARK_MS });
    this.#leaving.push(row);
    if (this.#leaving.length > MAX_LEAVING) this.#leaving.shift();
  }

  /** @param {number} now */
  #order(now) {
    this.#leaving = this.#leaving.filter((row) => row.until > now && !this.#rows.has(row.key));
    const places = new Map(this.#listed.map((row, place) => [row.key, place]));
    const list = [];
    for (const doc of this.#documents.slice(0, MAX_ROWS)) {
      const row = this.#rows.get(keyOf(doc));
      if (row) list.push(row);
    }
    const leaving = this.#leaving
      .map((row) => ({ row, place: places.get(row.key) ?? Infinity }))
      .filter(({ place }) => place < MAX_ROWS)
      .sort((one, other) => one.place - other.place);
    for (const { row, place } of leaving) list.splice(Math.min(place, list.length), 0, row);
    this.#listed = list;
    this.#isStale = false;
  }
}

/** @param {Doc} doc @returns {Row} */
function unmarked(doc) {
  return { key: keyOf(doc), doc, mark: "", until: 0, cells: new Set() };
}

/** @param {Row} row @param {Doc} doc @param {number} now */
function update(row, doc, now) {
  if (row.until <= now) row.cells = new Set();
  for (const name of new Set([...Object.keys(row.doc), ...Object.keys(doc)])) {
    if (!isEqual(row.doc[name], doc[name])) row.cells.add(name);
  }
  row.doc = doc;
  if (row.mark !== "entered" || row.until <= now) row.mark = "changed";
  row.until = now + MARK_MS;
}
