/**
 * Draw with a Scumble worker: submit a job, follow it live, get the pictures.
 *
 * Importing this module does nothing: no wasm is loaded and no global is touched before `Scumble.connect()`, so it
 * can be imported while a page is rendered on a server.
 *
 * @packageDocumentation
 */
export { type ConnectOptions, type GenerateRequest, Scumble } from "./client.js";
export { AbortError, ConnectionError, JobCancelledError, JobFailedError, ScumbleError } from "./errors.js";
export type { GeneratedImage } from "./images.js";
export { type CallOptions, type GenerateResult, ScumbleJob } from "./job.js";
export type {
  DimensionRange,
  ErrorCode,
  ErrorObject,
  ErrorType,
  ImageResult,
  Job,
  JobEvent,
  JobRequest,
  JobStatus,
  Model,
  ModelDefaults,
  ModelLimits,
  ModelVocabulary,
  NormalizedRequest,
  OutputFormat,
  Preview,
  PreviewFormat,
  ResponseFormat,
  Scheduler,
  Task,
  Timings,
} from "./generated/protocol.js";
