import type { CollectionConfig } from "@tanstack/db";
import type { Document, Live } from "./brook.js";

/** A collection of a live query's documents; everything but `live` is TanStack's own, such as `onInsert`. */
export function brookCollectionOptions<T extends Document & { _id: string | number }>(
  options: { live: Live<T> } & Partial<Omit<CollectionConfig<T, string | number>, "sync">>,
): CollectionConfig<T, string | number>;
