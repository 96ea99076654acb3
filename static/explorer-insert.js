/** A form that inserts a document, where the server has started its own MongoDB. */

import { ROOT } from "./explorer-query.js";

/** @param {HTMLElement} part @param {() => string} stream  names the stream that is chosen */
export function setUpInsert(part, stream) {
  const [form] = part.getElementsByTagName("form");
  const [text] = part.getElementsByTagName("textarea");
  const told = part.querySelector("[role=status]");
  if (!form || !text || !told) return;
  part.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    told.textContent = "";
    const why = await insert(stream(), text.value);
    told.textContent = why || "Inserted";
    text.ariaInvalid = String(Boolean(why));
  });
}

/**
 * Insert; returns the reason if that fails, as the server puts it.
 * @param {string} stream @param {string} body
 */
async function insert(stream, body) {
  try {
    const headers = { "Content-Type": "application/json" };
    const url = new URL(`sandbox/${encodeURIComponent(stream)}`, ROOT);
    const answer = await fetch(url, { method: "POST", headers, body });
    return answer.ok ? "" : (await answer.json()).detail;
  } catch (error) {
    return `The server does not answer: ${error}`;
  }
}
