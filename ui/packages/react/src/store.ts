/** A value outside React that components read with `useSyncExternalStore`. */
export interface Store<T> {
  readonly getSnapshot: () => T;
  readonly subscribe: (listener: () => void) => () => void;
}

/** A store's own side: sets the value, and learns when somebody begins and when everybody has stopped watching. */
export interface StoreCore<T> extends Store<T> {
  readonly set: (value: T) => void;
}

/**
 * `onWatched` runs when the first listener comes; `onForgotten` a microtask after the last one went, unless one came
 * back meanwhile: React's StrictMode unmounts and mounts in one go, and that must not close what is open.
 */
export function createStore<T>(initial: T, onWatched: () => void, onForgotten: () => void): StoreCore<T> {
  let value = initial;
  let watched = false;
  const listeners = new Set<() => void>();
  return {
    getSnapshot: () => value,
    set(next) {
      value = next;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      if (!watched) {
        watched = true;
        onWatched();
      }
      return () => {
        listeners.delete(listener);
        queueMicrotask(() => {
          if (listeners.size > 0 || !watched) return;
          watched = false;
          onForgotten();
        });
      };
    },
  };
}
