// What a page in TypeScript writes: compiled in the fresh project, from the installed package.

import { Brook } from "babbling-brook";
import { showList } from "babbling-brook/dom";
import { useLive } from "babbling-brook/react";
import { EventStream } from "babbling-brook/stream";
import { liveStore } from "babbling-brook/svelte";
import { brookCollectionOptions } from "babbling-brook/tanstack";
import { useLive as useInVue } from "babbling-brook/vue";

const creatures = new Brook("/").live<{ _id: string; type: string }>("creatures");
export const types: string[] | undefined = useLive(creatures).documents?.map(({ type }) => type);
export const inVue = useInVue(creatures).state.value;
export const collection = brookCollectionOptions({ live: creatures });
export const store = liveStore(creatures);
showList(creatures, document.body, ({ type }) => new Text(type));
// @ts-expect-error the types are those of the package, not any
new EventStream(7);
