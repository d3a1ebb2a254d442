import type { ScumbleError } from "@scumble/sdk";
import { asScumbleError } from "./errors.js";
import { type Store, createStore } from "./store.js";

/** Something read once and shared. */
export interface QueryState<T> {
  /** The answer; the last good one while it is read again. */
  data: T | undefined;
  /** Why there is no (new) answer. */
  error: ScumbleError | undefined;
  /** Whether it is being read. */
  isLoading: boolean;
}

/** A query that is read when it is first watched, and again on `refetch`. */
export interface QueryStore<T> extends Store<QueryState<T>> {
  readonly refetch: () => void;
}

/** What a query shows before it was read, and on a server. */
export const UNREAD: QueryState<never> = { data: undefined, error: undefined, isLoading: true };

/** Watched by many, `read` runs once at a time. */
export function createQueryStore<T>(read: () => Promise<T>): QueryStore<T> {
  let reading = false;
  const load = () => {
    if (reading) return;
    reading = true;
    store.set({ ...store.getSnapshot(), isLoading: true });
    read().then(
      (data) => {
        reading = false;
        store.set({ data, error: undefined, isLoading: false });
      },
      (thrown: unknown) => {
        reading = false;
        store.set({ data: store.getSnapshot().data, error: asScumbleError(thrown), isLoading: false });
      },
    );
  };
  const store = createStore<QueryState<T>>(
    UNREAD,
    () => {
      if (store.getSnapshot().data === undefined) load();
    },
    () => undefined,
  );
  return { getSnapshot: store.getSnapshot, subscribe: store.subscribe, refetch: load };
}
