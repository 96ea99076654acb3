import type { Document, Live, SubscribeOptions } from "./brook.js";

/** Keep the children of an element the same as the documents, in their order. Returns a function that ends it. */
export function showList<T extends Document, N extends ChildNode>(
  live: Live<T>,
  parent: ParentNode & Node,
  render: (doc: T, node: N | undefined) => N,
  options?: SubscribeOptions,
): () => void;
