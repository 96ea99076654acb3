/** Types of `brook.js`. */

import { Problem, type ConnectionOptions, type State } from "./brook-stream.js";

export { Problem };
export type { ConnectionOptions, State, Token } from "./brook-stream.js";

/** A document as JSON; with `types: "ejson"`, as relaxed Extended JSON. */
export interface Document {
  _id: unknown;
}

/** A MongoDB query, such as `{ size: { $gt: 3 } }`. The server says which operators it knows. */
export type Filter = Record<string, unknown>;

/** Paths and directions, in the order in which they decide. */
export type Sort = Record<string, 1 | -1>;

export interface BrookOptions extends ConnectionOptions {
  /** False: each query has a connection of its own, a GET. Default true: one POST for all of them. */
  bundle?: boolean;
  /**
   * One connection for all tabs of the origin that say the same here, if the browser has Web Locks. It is the
   * leading tab's, with the leading tab's token: with a `token`, name the user ("user-7"). Default: true in a
   * page without a `token`, else false.
   */
  share?: boolean | string;
}

interface QueryOptions {
  filter?: Filter;
  /** Rendering of types; see the server's documentation. */
  types?: "json" | "ejson";
}

interface DocumentOptions extends QueryOptions {
  /** Fields to include, or with a minus each, to exclude. */
  fields?: string | readonly string[];
}

export interface LiveOptions extends DocumentOptions {
  sort?: Sort;
  /** The first so many, with `sort` only. */
  limit?: number;
  /** Minimum time between two batches, in milliseconds. */
  every?: number;
}

export interface CountOptions extends QueryOptions {
  every?: number;
}

export interface ChangesOptions extends DocumentOptions {
  /** Only these `_id`s. */
  id?: string | readonly string[];
  ops?: string | readonly ("insert" | "update" | "replace" | "delete")[];
  /** The document before the change, where the collection keeps pre-images. */
  before?: boolean;
  /** Where to begin: a position, an RFC 3339 time, or "now". The query then has a connection of its own. */
  since?: string;
  /** Maximum number of unread changes of a `for await`. More become a `reset` with the reason "slow-consumer". */
  buffer?: number;
}

export interface SubscribeOptions {
  signal?: AbortSignal;
}

/** All queries of a page, on as few connections as possible. */
export class Brook extends EventTarget {
  /** `base` is the server's address, relative to the page. */
  constructor(base?: string | URL, options?: BrookOptions);

  /** "connecting" without a query. Of several connections, the worst. Each change is a `statechange`. */
  readonly state: State;
  readonly error: Problem | null;
  /** Why it is not live, for people; empty if it is. */
  readonly why: string;

  /** The documents that match, kept up to date. Equal calls share one result set. */
  live<T extends Document = Document & Record<string, any>>(stream: string, options?: LiveOptions): Live<T>;

  /** The number of documents that match, kept up to date. */
  count(stream: string, options?: CountOptions): Count;

  /** Every change from now on, or from `since`. */
  changes<T extends Document = Document & Record<string, any>>(stream: string, options?: ChangesOptions): Changes<T>;

  /**
   * Resolves when every query shows all that was written up to a position: `t<seconds>.<increment>` of a
   * write's operationTime. Rejects when the page closes or the server refuses.
   */
  reached(position: string, options?: SubscribeOptions): Promise<void>;

  /** Connect anew at once, with a fresh token. Nothing is lost, and nothing comes twice. */
  reconnect(): void;

  close(): void;
}

/** What Live, Count and Changes share. Each change of the state is a `statechange`. */
interface Query extends EventTarget {
  readonly state: State;
  readonly error: Problem | null;
  readonly why: string;
  /** The position up to which everything has been told. */
  readonly position: string;
}

export interface Upsert<T> {
  op: "upsert";
  why: "insert" | "enter" | "update" | "replace";
  id: unknown;
  doc: T;
  /** In a window: the `_id` of the document behind it, null at the end. */
  before?: unknown;
}

export interface Remove {
  op: "remove";
  why: "delete" | "leave";
  id: unknown;
}

export interface LiveNews<T> {
  /** What the batch changed; null if the documents are a new snapshot. */
  changes: readonly (Upsert<T> | Remove)[] | null;
  /** Why there was a new snapshot, if something broke the result set. */
  reason?: string;
}

export interface Live<T extends Document = Document> extends Query {
  /** A new frozen array after each batch, the same one until then; null before the first snapshot. */
  readonly documents: readonly T[] | null;

  /**
   * Calls the listener with the documents that there are, at once, and then after each batch. Returns a
   * function that ends the subscription. The connection opens with the first subscriber.
   */
  subscribe(listener: (documents: readonly T[], news: LiveNews<T>) => void, options?: SubscribeOptions): () => void;
}

export interface Count extends Query {
  readonly value: number | null;
  subscribe(listener: (count: number) => void, options?: SubscribeOptions): () => void;
}

/** One change, as the server's envelope has it. */
export interface Change<T> {
  op: "insert" | "update" | "replace" | "delete" | "leave";
  ns: string;
  id: unknown;
  /** Null after a delete, and if the document of an update is gone already. */
  doc: T | null;
  changed?: { set: Record<string, unknown>; unset: string[]; truncated: unknown[] };
  before?: T | null;
  gone?: true;
  time: string;
}

/** Changes may be missing: load the data anew. */
export interface Reset {
  op: "reset";
  reason: string;
  since?: string;
  ns?: string;
}

export interface Changes<T extends Document = Document> extends Query, AsyncIterable<Change<T> | Reset> {
  subscribe(listener: (change: Change<T> | Reset) => void, options?: SubscribeOptions): () => void;
  /** Begins when it is asked for the first change. Ends with `close()`; throws the problem of a refusal. */
  [Symbol.asyncIterator](): AsyncGenerator<Change<T> | Reset, void>;
}
