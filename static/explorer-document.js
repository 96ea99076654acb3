/** One whole document beside the table, kept up to date. */

import { isEqual, prettyText } from "./explorer-value.js";

/** @typedef {Record<string, any>} Doc */

// A text that a phone can still lay out.
const MAX_CHARACTERS = 100_000;

export class DocumentPanel {
  /** The key of the document that is followed; empty if the panel is closed. */
  key = "";

  #panel;
  #title;
  #text;
  #state;
  #onClose;
  /** @type {Doc | undefined} */
  #doc;

  /** @param {HTMLElement} panel @param {() => void} onClose */
  constructor(panel, onClose) {
    this.#panel = panel;
    this.#onClose = onClose;
    this.#title = part(panel, "h2");
    this.#text = part(panel, "pre");
    this.#state = part(panel, "[role=status]");
    part(panel, "button").addEventListener("click", () => this.close());
    panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
  }

  /** @param {string} key */
  open(key) {
    this.key = key;
    this.#doc = undefined;
    this.#title.textContent = `Document ${JSON.parse(key)?.constructor === Object ? key : JSON.parse(key)}`;
    this.#text.textContent = "";
    this.#panel.hidden = false;
  }

  close() {
    this.key = "";
    this.#panel.hidden = true;
    this.#onClose();
  }

  /** Show the document as it is now; undefined if it is not in the result. @param {Doc | undefined} doc */
  draw(doc) {
    if (!this.key) return;
    const state = doc ? "Live" : "Not in the result now";
    if (this.#state.textContent !== state) this.#state.textContent = state;
    if (!doc || doc === this.#doc) return;
    if (!isEqual(doc, this.#doc)) this.#text.textContent = prettyText(doc, MAX_CHARACTERS);
    this.#doc = doc;
  }
}

/** @param {HTMLElement} panel @param {string} selector */
function part(panel, selector) {
  return /** @type {HTMLElement} */ (panel.querySelector(selector));
}
