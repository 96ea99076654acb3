import type { MaybeRefOrGetter, ShallowRef } from "vue";
import type { Document, Live, Problem, State } from "./brook.js";

/** The documents of a live query, null until they are there, and its state. */
export function useLive<T extends Document>(
  query: MaybeRefOrGetter<Live<T>>,
): {
  documents: ShallowRef<readonly T[] | null>;
  state: ShallowRef<State>;
  error: ShallowRef<Problem | null>;
};
