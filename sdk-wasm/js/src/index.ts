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
  ImageInput,
  ImageResult,
  InpaintFill,
  Job,
  JobEvent,
  JobRequest,
  JobStatus,
  LoraChoice,
  Model,
  ModelDefaults,
  ModelLimits,
  ModelVocabulary,
  NormalizedRequest,
  Outpaint,
  OutputFormat,
  PictureText,
  PngInfo,
  Preview,
  PreviewFormat,
  ReadParameters,
  ResponseFormat,
  Scheduler,
  Task,
  TextSource,
  Timings,
  Upload,
} from "./generated/protocol.js";
