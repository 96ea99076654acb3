import type { Document, Live, Problem, State } from "./brook.js";

/** The documents of a live query, null until they are there, and its state. */
export function useLive<T extends Document>(
  live: Live<T>,
): { documents: readonly T[] | null; state: State; error: Problem | null };
