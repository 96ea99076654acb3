/** Types of `brook-stream.js`: the connection alone, for a page that wants the bare events of one stream. */

export type State = "connecting" | "live" | "interrupted" | "reconnecting" | "ended";

/** A token, or a function that is asked for one before each connection. */
export type Token = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** An error as the server or the connection told it. */
export class Problem extends Error {
  constructor(code: string, message: string, facts?: object);
  /**
   * For programs: a code of the server's ("invalid-filter", "unknown-stream", "token-expired" ...), the reason
   * of a goodbye ("shutdown" ...), "http-502" and the like, or one of the client's own: "closed", "cut",
   * "unreachable", "silent", "away", "no-token", "not-a-stream", "unreadable", "too-large".
   */
  readonly code: string;
  /** The HTTP status, if there was one. */
  readonly status?: number;
  /** The part of a request that was refused, such as "subscriptions.q1.filter". */
  readonly at?: string;
}

export interface ConnectionOptions {
  /** Sent as `Authorization: Bearer`. A refused token is asked for once more before the stream ends. */
  token?: Token;
  /** As for `fetch`: "include" sends cookies to another origin. Default "same-origin". */
  credentials?: RequestCredentials;
  /** The server's `--heartbeat-seconds`, default 15. A connection is dead after 2.5 of them without a byte. */
  keepAliveSeconds?: number;
  /** Closes everything when it is aborted. */
  signal?: AbortSignal;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch;
}

export interface StreamEvent {
  type: string;
  data: string;
  /** The event's id; undefined without one. */
  id?: string;
}

export interface StreamOptions extends ConnectionOptions {
  /** Where the first connection begins: an id, an RFC 3339 time, or "now". */
  since?: string | null;
  /** A position to go on from, which the server gave before. If it is lost, there is a reset. */
  position?: string;
  /** Called before each connection. */
  onConnect?: () => void;
  onEvent?: (event: StreamEvent) => void;
  /** Called after an event with an id, and after a checkpoint. */
  onPosition?: (position: string) => void;
  onState?: () => void;
  /** Called for a refusal for good; true if the next request asks for something else. */
  onRefused?: (problem: Problem) => boolean;
}

export interface StreamRequest extends RequestInit {
  url: string | URL;
  headers?: Record<string, string>;
}

/** One event stream, over as many connections as it takes. */
export class EventStream {
  constructor(
    request: string | ((from: { position: string; since: string }) => StreamRequest),
    options?: StreamOptions,
  );
  readonly state: State;
  readonly error: Problem | null;
  /** Why it is not live, for people; empty if it is. */
  readonly why: string;
  /** The id of the last event or checkpoint. */
  readonly position: string;
  /** Open a new connection from the position. A wait before a retry goes on. */
  restart(): void;
  /** The same, at once. */
  reconnect(): void;
  close(): void;
}

/** Reads the event stream format of the HTML standard, from bytes that are cut anywhere. */
export class EventParser {
  constructor(
    onBlock: (block: { type: string; data: string | undefined; id: string | undefined }) => void,
    onRetry?: (ms: number) => void,
  );
  feed(bytes: Uint8Array): void;
}
