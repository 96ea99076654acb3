/** React: `const { documents, state, error } = useLive(brook.live("creatures"))`, null until they are there. */

import { useCallback, useSyncExternalStore } from "react";

/** Equal calls of `brook.live` give the same query, so a component may call it each time it is drawn. */
export function useLive(live) {
  const documents = useSyncExternalStore(
    useCallback((onChange) => live.subscribe(onChange), [live]),
    () => live.documents,
    () => null,
  );
  const state = useSyncExternalStore(
    useCallback((onChange) => listen(live, onChange), [live]),
    () => live.state,
    () => "connecting",
  );
  return { documents, state, error: live.error };
}

function listen(live, onChange) {
  live.addEventListener("statechange", onChange);
  return () => live.removeEventListener("statechange", onChange);
}
