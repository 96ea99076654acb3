/** Values of a document as text: short for a cell, whole for a panel. Text only, never HTML. */

const CELL_CHARACTERS = 160;

/** @typedef {Record<string, any>} Doc */

/**
 * A value in one short line, as mongosh writes it.
 * @param {unknown} value
 * @returns {string}
 */
export function shortText(value) {
  if (value === undefined) return "";
  if (typeof value === "string") return cut(value);
  return cut(brief(value, CELL_CHARACTERS));
}

/**
 * A value in several lines, and at most so many characters.
 * @param {unknown} value
 * @param {number} longest
 */
export function prettyText(value, longest) {
  const text = JSON.stringify(value, null, 2) ?? "";
  return text.length > longest ? `${text.slice(0, longest)}\n... (${text.length} characters)` : text;
}

/**
 * The name of a value's kind, for the style sheet.
 * @param {unknown} value
 */
export function kindOf(value) {
  if (value === null || value === undefined) return "none";
  return Array.isArray(value) ? "object" : typeof value;
}

/**
 * True if both are written alike.
 * @param {unknown} one
 * @param {unknown} other
 */
export function isEqual(one, other) {
  return one === other || (typeof one === "object" && JSON.stringify(one) === JSON.stringify(other));
}

/**
 * The fields, by path, in which two documents differ. Nested objects are compared field by field.
 * @param {Doc | undefined} before
 * @param {Doc | undefined} after
 * @param {string} [path]
 * @returns {{ path: string, before: unknown, after: unknown }[]}
 */
export function differences(before, after, path = "") {
  const found = [];
  for (const name of new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])) {
    const [one, other] = [before?.[name], after?.[name]];
    if (isEqual(one, other)) continue;
    const here = path + name;
    if (isPlain(one) && isPlain(other)) found.push(...differences(one, other, `${here}.`));
    else found.push({ path: here, before: one, after: other });
  }
  return found;
}

/**
 * @param {unknown} value
 * @returns {value is Doc}
 */
function isPlain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Compact text with spaces, made no longer than is shown: a value may have megabytes.
 * @param {unknown} value
 * @param {number} room
 * @returns {string}
 */
function brief(value, room) {
  if (room <= 0) return "...";
  if (typeof value === "string") return JSON.stringify(cut(value));
  if (typeof value !== "object" || value === null) return String(value);
  const isList = Array.isArray(value);
  const parts = [];
  let left = room;
  for (const [name, one] of isList ? value.entries() : Object.entries(value)) {
    const text = isList ? brief(one, left) : `${name}: ${brief(one, left)}`;
    parts.push(left > 0 ? text : "...");
    left -= text.length + 2;
    if (left <= 0) break;
  }
  const inner = parts.join(", ");
  if (isList) return `[${inner}]`;
  return inner ? `{ ${inner} }` : "{}";
}

/** @param {string} text */
function cut(text) {
  return text.length > CELL_CHARACTERS ? `${text.slice(0, CELL_CHARACTERS)}...` : text;
}
