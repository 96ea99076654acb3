/** Svelte: `const creatures = liveStore(brook.live("creatures"))`, then `$creatures.documents`, null at first. */

import { readable } from "svelte/store";

export function liveStore(live) {
  const now = () => ({ documents: live.documents, state: live.state, error: live.error });
  return readable(now(), (set) => {
    const follow = () => set(now());
    live.addEventListener("statechange", follow);
    const stop = live.subscribe(follow);
    return () => {
      stop();
      live.removeEventListener("statechange", follow);
    };
  });
}
