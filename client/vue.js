/** Vue: `const { documents, state, error } = useLive(() => brook.live("creatures", { filter: filter.value }))`. */

import { shallowRef, toValue, watchEffect } from "vue";

/** A query, or a getter or a ref of one: with another query, the documents of the last one stay until it has some. */
export function useLive(query) {
  const documents = shallowRef(null);
  const state = shallowRef("connecting");
  const error = shallowRef(null);
  watchEffect((onCleanup) => {
    const live = toValue(query);
    const follow = () => {
      state.value = live.state;
      error.value = live.error;
    };
    const stop = live.subscribe((now) => (documents.value = now));
    live.addEventListener("statechange", follow);
    follow();
    onCleanup(() => {
      stop();
      live.removeEventListener("statechange", follow);
    });
  });
  return { documents, state, error };
}
