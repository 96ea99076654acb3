/** Plain DOM: `showList(brook.live("creatures"), document.querySelector("ol"), (doc) => item(doc))`. */

/**
 * Keep the children of an element the same as the documents, in their order. `render(doc, node)` returns the
 * node of a document; `node` is the one it had before. Nodes of unchanged documents are left alone, and stay
 * where they are if they can: they keep their focus and what was typed into them. Returns a function that ends it.
 */
export function showList(live, parent, render, options) {
  let shown = new Map();
  return live.subscribe((documents) => {
    const next = new Map();
    for (const doc of documents) {
      const key = JSON.stringify(doc._id);
      const old = shown.get(key);
      next.set(key, old?.doc === doc ? old : { doc, node: render(doc, old?.node) });
    }
    for (const [key, { node }] of shown) if (next.get(key)?.node !== node) node.remove();
    let place = null;
    for (const { node } of [...next.values()].reverse()) {
      if (node.nextSibling !== place || node.parentNode !== parent) parent.insertBefore(node, place);
      place = node;
    }
    shown = next;
  }, options);
}
