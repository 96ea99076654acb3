/** The query as code: for a shell, for a plain EventSource, and for brook.js. */

import { commandFor, copyText } from "./command.js";
import { ROOT, parametersOf } from "./explorer-query.js";

/** @typedef {import("./explorer-query.js").Texts} Texts */

const TOLD_MS = 3_000;

const COOKIE = "// An EventSource cannot send a token: the server takes it from a cookie, if it is configured so.\n";

/** Code holds a placeholder for the token, never the token. @type {Record<string, (texts: Texts, options: Record<string, any>, withToken: boolean) => string>} */
const KINDS = {
  curl: (texts, _, withToken) => commandFor(parametersOf(texts, "live"), withToken),
  EventSource: (texts, _, withToken) => (withToken ? COOKIE : "") + eventSource(texts),
  "brook.js": client,
};

/** @param {Texts} texts */
function eventSource(texts) {
  return `const stream = new EventSource(${JSON.stringify(parametersOf(texts, "live").href)});
let held = new Map(), coming = new Map();
const key = (id) => JSON.stringify(id);

stream.addEventListener("snapshot", ({ data }) => {
  for (const doc of JSON.parse(data).docs) coming.set(key(doc._id), doc);
});
stream.addEventListener("live", ({ data }) => {
  if (!JSON.parse(data).resumed) [held, coming] = [coming, new Map()];
  console.log([...held.values()]);
});
stream.addEventListener("changes", ({ data }) => {
  for (const { op, id, doc } of JSON.parse(data).changes) {
    if (op === "upsert") held.set(key(id), doc);
    else held.delete(key(id));
  }
  console.log([...held.values()]);
});`;
}

/** @param {Texts} texts @param {Record<string, any>} options @param {boolean} withToken */
function client({ stream }, options, withToken) {
  const login = withToken ? ', { token: async () => "TOKEN" }' : "";
  const given = JSON.stringify(options) === "{}" ? "" : `, ${JSON.stringify(options, null, 2)}`;
  return `import { Brook } from ${JSON.stringify(new URL("static/brook.js", ROOT).href)};

const brook = new Brook(${JSON.stringify(ROOT.href)}${login});
const query = brook.live(${JSON.stringify(stream)}${given});
query.subscribe((documents, { changes }) => console.log(documents, changes));`;
}

/** Set up the part of the page; returns a function that shows the code for a query. @param {HTMLElement} part */
export function setUpCopy(part) {
  const code = /** @type {HTMLElement} */ (part.querySelector("pre"));
  const told = /** @type {HTMLElement} */ (part.querySelector("[role=status]"));
  const choice = /** @type {HTMLSelectElement} */ (part.querySelector("select"));
  choice.replaceChildren(...Object.keys(KINDS).map((kind) => new Option(kind, kind)));
  let draw = () => {};
  choice.addEventListener("change", () => draw());
  part.querySelector("button")?.addEventListener("click", async () => {
    told.textContent = await copyText(code);
    setTimeout(() => (told.textContent = ""), TOLD_MS);
  });
  return (/** @type {Texts} */ texts, /** @type {Record<string, any>} */ options, /** @type {boolean} */ withToken) => {
    draw = () => (code.textContent = KINDS[choice.value]?.(texts, options, withToken) ?? "");
    draw();
  };
}
