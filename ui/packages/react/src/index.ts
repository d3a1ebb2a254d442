/**
 * React hooks that draw with a Scumble worker.
 *
 * @packageDocumentation
 */
export {
  type GenerateActions,
  type GeneratePreview,
  type GenerateProgress,
  type GenerateState,
  type GenerateStatus,
  type GenerateStore,
  type HookImage,
  type UseGenerateOptions,
  createGenerateStore,
} from "./generate-store.js";
export {
  type UseGenerateResult,
  type UseQueryResult,
  useGenerate,
  useJob,
  useModels,
  useSchedulers,
  useScumble,
} from "./hooks.js";
export type { JobState } from "./job-store.js";
export { ScumbleProvider, type ScumbleProviderProps } from "./provider.js";
export type { QueryState } from "./query-store.js";
