import type { Readable } from "svelte/store";
import type { Document, Live, Problem, State } from "./brook.js";

/** A store of a live query's documents, null until they are there, and its state. */
export function liveStore<T extends Document>(
  live: Live<T>,
): Readable<{ documents: readonly T[] | null; state: State; error: Problem | null }>;
