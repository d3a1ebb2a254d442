"use client";

import type { Model, Scheduler, Scumble } from "@scumble/sdk";
import { useInsertionEffect, useMemo, useSyncExternalStore } from "react";
import {
  type GenerateActions,
  type GenerateState,
  IDLE,
  type UseGenerateOptions,
  createGenerateStore,
} from "./generate-store.js";
import { type JobState, UNREAD_JOB, createJobStore } from "./job-store.js";
import { useConnection } from "./provider.js";
import { type QueryState, type QueryStore, UNREAD } from "./query-store.js";

/** The provider's client; connects at the first call. The function never changes while the provider's options do not. */
export function useScumble(): () => Promise<Scumble> {
  return useConnection().connect;
}

/** All that is known of a drawing, and what can be done with it. */
export interface UseGenerateResult extends GenerateState, GenerateActions {}

/**
 * Draws pictures and says how far they are.
 *
 * ```tsx
 * const { generate, cancel, status, progress, preview, images, error } = useGenerate();
 * ```
 *
 * When the component goes, listening ends and object URLs are given back; the job goes on unless
 * `cancelOnUnmount` is set.
 */
export function useGenerate(options: UseGenerateOptions = {}): UseGenerateResult {
  const { connect } = useConnection();
  const store = useMemo(() => createGenerateStore(connect), [connect]);
  useInsertionEffect(() => {
    store.setOptions(options);
  });
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, () => IDLE);
  return useMemo(
    () => ({
      ...state,
      generate: store.generate,
      attach: store.attach,
      cancel: store.cancel,
      reset: store.reset,
    }),
    [state, store],
  );
}

/** What a query hook gives. */
export interface UseQueryResult<T> extends QueryState<T> {
  /** Reads it again. */
  readonly refetch: () => void;
}

/** The models that the worker can draw with, the default one first; read once for all components. */
export function useModels(): UseQueryResult<Model[]> {
  return useQuery(useConnection().models);
}

/** The schedulers, in the order a menu would show them; read once for all components. */
export function useSchedulers(): UseQueryResult<Scheduler[]> {
  return useQuery(useConnection().schedulers);
}

function useQuery<T>(store: QueryStore<T>): UseQueryResult<T> {
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, () => UNREAD);
  return useMemo(() => ({ ...state, refetch: store.refetch }), [state, store]);
}

/** Follows a job by its id to its end; without an id it does nothing. */
export function useJob(id: string | null | undefined): JobState {
  const { connect } = useConnection();
  const store = useMemo(() => createJobStore(connect, id), [connect, id]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, () => UNREAD_JOB);
}
