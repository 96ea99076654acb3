/**
 * The table of documents. It builds only the rows in sight, so that 2,000 of them cost no more than 40.
 *
 * A change is marked by a class and unmarked by the next drawing: animations on rows would keep the main thread busy.
 */

import { kindOf, shortText } from "./explorer-value.js";

/** @typedef {import("./explorer-rows.js").Row} Row */

// As in explorer.css: places are computed, never measured.
const ROW_PX = 29;

// Rows above and below the ones in sight, for scrolling without white.
const SPARE_ROWS = 8;

// More columns than a person compares. The whole document is one click away.
const MAX_COLUMNS = 30;

// Number of documents from which the columns are taken, and bounds of their widths in characters.
const SAMPLED_ROWS = 200;
const WIDTHS = { min: 7, max: 36 };

const TITLES = { entered: "entered", changed: "changed", left: "left the result", deleted: "deleted", "": "" };

export class Table {
  #frame;
  #table;
  #head;
  #body;
  #onOpen;
  /** @type {readonly Row[]} */
  #rows = [];
  /** @type {string[]} */
  #columns = [];
  /** @type {Map<string, HTMLTableRowElement>} */
  #drawn = new Map();
  #above = spacer();
  #below = spacer();
  #current = 0;
  #openKey = "";

  /**
   * @param {HTMLElement} frame  scrolls, and holds the table
   * @param {(key: string) => void} onOpen
   */
  constructor(frame, onOpen) {
    this.#frame = frame;
    this.#onOpen = onOpen;
    this.#table = /** @type {HTMLTableElement} */ (frame.querySelector("table"));
    this.#head = this.#table.tHead ?? this.#table.createTHead();
    this.#body = this.#table.tBodies[0] ?? this.#table.createTBody();
    frame.addEventListener("scroll", () => requestAnimationFrame(() => this.#drawRows(performance.now())));
    new ResizeObserver(() => this.#drawRows(performance.now())).observe(frame);
    this.#body.addEventListener("click", (event) => this.#click(event));
    this.#body.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Forget the columns: another query has others. */
  clear() {
    this.#columns = [];
    this.#current = 0;
    this.#frame.scrollTop = 0;
  }

  /**
   * Draw rows in order. `openKey` is the one whose document is open.
   * @param {readonly Row[]} rows @param {number} now @param {string} openKey
   */
  draw(rows, now, openKey) {
    this.#rows = rows;
    this.#openKey = openKey;
    this.#nameColumns();
    this.#table.ariaRowCount = String(rows.length + 1);
    this.#drawRows(now);
  }

  /** Columns stay where they are; new ones come last. */
  #nameColumns() {
    const names = new Set(this.#columns);
    if (!names.size && this.#rows.length) names.add("_id");
    for (const { doc } of this.#rows.slice(0, SAMPLED_ROWS)) {
      for (const name of Object.keys(doc)) if (names.size < MAX_COLUMNS) names.add(name);
    }
    if (names.size === this.#columns.length && this.#head.rows.length) return;
    this.#columns = [...names];
    this.#drawHead();
    for (const tr of this.#drawn.values()) tr.remove();
    this.#drawn.clear();
  }

  #drawHead() {
    const head = document.createElement("tr");
    head.ariaRowIndex = "1";
    head.append(...this.#columns.map((name) => this.#heading(name)));
    this.#head.replaceChildren(head);
    const widths = this.#columns.map((name) => this.#width(name));
    this.#table.querySelector("colgroup")?.remove();
    const group = document.createElement("colgroup");
    for (const width of widths) {
      const col = document.createElement("col");
      col.style.width = `${width}ch`;
      group.append(col);
    }
    this.#table.prepend(group);
    this.#table.style.minWidth = `${widths.reduce((sum, width) => sum + width, 0)}ch`;
    for (const { firstElementChild } of [this.#above, this.#below]) {
      /** @type {HTMLTableCellElement} */ (firstElementChild).colSpan = Math.max(1, this.#columns.length);
    }
  }

  /** @param {string} name */
  #heading(name) {
    const first = this.#rows.find(({ doc }) => doc[name] !== undefined);
    const className = name === "_id" ? "" : kindOf(first?.doc[name]); // as the cells below it
    return element("th", name, { scope: "col", title: name, className });
  }

  /** @param {string} name */
  #width(name) {
    const sample = this.#rows.slice(0, SAMPLED_ROWS).map(({ doc }) => shortText(doc[name]).length);
    return Math.max(WIDTHS.min, Math.min(WIDTHS.max, Math.max(name.length + 1, ...sample)) + 3);
  }

  /** @param {number} now */
  #drawRows(now) {
    const first = Math.max(0, Math.floor(this.#frame.scrollTop / ROW_PX) - SPARE_ROWS);
    const last = first + Math.ceil(this.#frame.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const shown = this.#rows.slice(first, last);
    this.#current = Math.min(this.#current, Math.max(0, this.#rows.length - 1));
    height(this.#above, first);
    height(this.#below, this.#rows.length - first - shown.length);
    const wanted = new Set(shown.map(({ key }) => key));
    for (const [key, tr] of this.#drawn) if (!wanted.has(key)) this.#drop(key, tr);
    if (this.#above.parentNode !== this.#body) this.#body.replaceChildren(this.#above, this.#below);
    /** @type {Element} */
    let place = this.#above;
    for (const [offset, row] of shown.entries()) {
      const tr = this.#row(row, first + offset, now);
      // A row that is in its place is not moved: it may have the focus.
      if (place.nextElementSibling !== tr) place.after(tr);
      place = tr;
    }
  }

  /** @param {string} key @param {HTMLTableRowElement} tr */
  #drop(key, tr) {
    if (tr.contains(document.activeElement)) this.#frame.focus({ preventScroll: true });
    tr.remove();
    this.#drawn.delete(key);
  }

  /** @param {Row} row @param {number} index @param {number} now */
  #row(row, index, now) {
    let tr = this.#drawn.get(row.key);
    if (!tr) {
      tr = document.createElement("tr");
      tr.dataset.key = row.key;
      tr.append(...this.#columns.map((_, column) => document.createElement(column ? "td" : "th")));
      const name = /** @type {HTMLTableCellElement} */ (tr.cells[0]);
      name.scope = "row";
      name.append(element("button", "", { type: "button", tabIndex: -1 }));
      this.#drawn.set(row.key, tr);
    }
    const isMarked = row.until > now;
    set(tr, "className", isMarked ? row.mark : "");
    set(tr, "title", isMarked ? TITLES[row.mark] : "");
    set(tr, "ariaRowIndex", String(index + 2));
    this.#fill(tr, row, index, isMarked && row.mark === "changed");
    return tr;
  }

  /** @param {HTMLTableRowElement} tr @param {Row} row @param {number} index @param {boolean} isChanged */
  #fill(tr, row, index, isChanged) {
    for (const [column, name] of this.#columns.entries()) {
      const cell = tr.cells[column];
      if (!cell) continue;
      const target = /** @type {HTMLElement} */ (column ? cell : cell.firstElementChild);
      set(target, "textContent", shortText(row.doc[name]));
      const mark = isChanged && row.cells.has(name) ? " flash" : "";
      set(cell, "className", kindOf(row.doc[name]) + mark);
    }
    const button = /** @type {HTMLButtonElement} */ (tr.cells[0]?.firstElementChild);
    set(button, "tabIndex", index === this.#current ? 0 : -1);
    set(button, "ariaPressed", String(row.key === this.#openKey));
  }

  /** @param {Event} event */
  #click({ target }) {
    const tr = /** @type {Element} */ (target).closest("tr");
    const key = tr?.dataset.key;
    if (key === undefined || getSelection()?.type === "Range") return;
    this.#current = this.#rows.findIndex((row) => row.key === key);
    this.#onOpen(key);
  }

  /** Arrow keys move through the rows, as in a list; Enter on a row's button opens its document. @param {KeyboardEvent} event */
  #press(event) {
    const page = Math.max(1, Math.floor(this.#frame.clientHeight / ROW_PX) - 2);
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const key = /** @type {Element} */ (event.target).closest("tr")?.dataset.key;
    const from = this.#rows.findIndex((row) => row.key === key);
    this.#current = Math.max(0, Math.min(this.#rows.length - 1, from + step));
    this.#reveal(this.#current);
    this.#drawRows(performance.now());
    const row = this.#rows[this.#current];
    if (row) this.#drawn.get(row.key)?.querySelector("button")?.focus({ preventScroll: true });
  }

  /** @param {number} index */
  #reveal(index) {
    const room = this.#frame.clientHeight - 2 * ROW_PX; // below the heading, above the scroll bar
    const top = index * ROW_PX;
    if (top < this.#frame.scrollTop) this.#frame.scrollTop = top;
    else if (top > this.#frame.scrollTop + room - ROW_PX) this.#frame.scrollTop = top - room + ROW_PX;
  }
}

/** A row in place of those out of sight. */
function spacer() {
  const tr = document.createElement("tr");
  tr.className = "spacer";
  tr.ariaHidden = "true";
  tr.append(document.createElement("td"));
  return tr;
}

/** @param {HTMLTableRowElement} tr @param {number} rows */
function height(tr, rows) {
  set(tr, "hidden", rows <= 0);
  const px = `${rows * ROW_PX}px`;
  if (tr.style.height !== px) tr.style.height = px;
}

/**
 * Write only what differs: writing the same again costs style and layout.
 * @param {any} target @param {string} name @param {unknown} value
 */
function set(target, name, value) {
  if (target[name] !== value) target[name] = value;
}

/** @param {string} tag @param {string} text @param {object} [properties] */
export function element(tag, text, properties) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}
