// Written by `cargo xtask generate` from worker/crates/protocol; edits here are lost.

/**
 * Images in one job, 1–8.
 */
export type BatchSize = number;

/**
 * Width or height in pixels: a multiple of 8, 8–4096. A model's own bounds are narrower and checked with the
 * model.
 */
export type Dimension = number;

/**
 * Pixels: `minimum..=maximum` in steps of `multiple`.
 */
export type DimensionRange = {
/**
 * Smallest.
 */
minimum: number,
/**
 * Largest.
 */
maximum: number,
/**
 * Step between two sizes.
 */
multiple: number, };

/**
 * `{"error": {…}}`: the body of every response that is not a success.
 */
export type ErrorBody = {
/**
 * What went wrong.
 */
error: ErrorObject, };

/**
 * What exactly went wrong: stable names that clients branch on.
 */
export type ErrorCode = "invalid_json" | "invalid_value" | "unknown_field" | "missing_field" | "model_not_found" | "scheduler_not_found" | "not_found" | "method_not_allowed" | "unsupported_media_type" | "payload_too_large" | "request_timeout" | "job_finished" | "idempotency_key_reused" | "invalid_api_key" | "forbidden_origin" | "queue_full" | "model_loading" | "draining" | "storage_unavailable" | "drawing_failed" | "attempts_exhausted" | "internal_error" | "job_cancelled" | "connection_failed" | "invalid_response" | "timeout" | "aborted" | "unknown";

/**
 * What went wrong, for a person (`message`) and for a program (`code`, `param`).
 */
export type ErrorObject = {
/**
 * What was wrong and what would be right.
 */
message: string,
/**
 * The broad class, as OpenAI names it.
 */
type: ErrorType,
/**
 * What a client branches on.
 */
code: ErrorCode,
/**
 * The request's field that is at fault.
 */
param: string | null,
/**
 * What to quote when reporting the failure.
 */
request_id: string | null, };

/**
 * The broad class of an error.
 */
export type ErrorType = "invalid_request_error" | "authentication_error" | "rate_limit_error" | "server_error" | "connection_error" | "unknown";

/**
 * How strongly the prompt steers, 0–30; 1 and below turn classifier-free guidance off.
 */
export type GuidanceScale = number;

/**
 * One finished image.
 */
export type ImageResult = {
/**
 * Place in the batch, from 0.
 */
index: number,
/**
 * The seed that draws this very image alone.
 */
seed: Seed,
/**
 * Pixels across.
 */
width: number,
/**
 * Pixels down.
 */
height: number,
/**
 * `image/png`, `image/webp` or `image/jpeg`.
 */
mime_type: string,
/**
 * Where the bytes are, relative to the server.
 */
url: string,
/**
 * The encoded file in base64, where the response format asks for it.
 */
image_base64?: string, };

/**
 * A job: the body of `GET /v1/jobs/{id}` and of the 202 that accepts it.
 */
export type Job = {
/**
 * The job's id.
 */
job_id: JobId,
/**
 * Where it stands.
 */
status: JobStatus,
/**
 * Place in the queue while queued: 1 is next.
 */
position: number | null,
/**
 * Which attempt runs or ran last; more than 1 after a crash. 0 while it never ran.
 */
attempt: number,
/**
 * When it was accepted (RFC 3339, UTC).
 */
created_at: string,
/**
 * When an engine took it (RFC 3339, UTC).
 */
started_at: string | null,
/**
 * When it ended (RFC 3339, UTC).
 */
finished_at: string | null,
/**
 * What is drawn, every default filled in, the drawn seed included.
 */
request: NormalizedRequest,
/**
 * What was adjusted or could not be honoured.
 */
warnings: Array<string>,
/**
 * How long it took, once it has succeeded.
 */
timings: Timings | null,
/**
 * The images, once it has succeeded (pixels by `url`).
 */
images: Array<ImageResult>,
/**
 * Why it failed.
 */
error: ErrorObject | null, };

/**
 * One event of a job's stream. `seq` is also the SSE `id`, and the JSON repeats the SSE event name under `event`.
 */
export type JobEvent = {
/**
 * The job it happened to.
 */
job_id: JobId,
/**
 * Grows with every event of the job; gaps are previews that history does not keep.
 */
seq: number, } & ({ "event": "queued",
/**
 * 1 is next.
 */
position: number,
/**
 * Estimated wait until it starts, once jobs have been timed.
 */
eta_ms: number | null, } | { "event": "started",
/**
 * The model that draws.
 */
model: ModelId,
/**
 * `cpu`, `cuda:0`, `metal`.
 */
device: string,
/**
 * Denoising steps per image.
 */
total: number,
/**
 * The first image's seed.
 */
seed: Seed, } | { "event": "progress",
/**
 * Steps done of this image.
 */
step: number,
/**
 * Steps per image.
 */
total: number,
/**
 * Which image of the batch, from 0.
 */
image: number,
/**
 * Since the job started.
 */
elapsed_ms: number,
/**
 * Estimated time to the end of the job.
 */
eta_ms: number,
/**
 * Measured over this job so far.
 */
steps_per_second: number, } | { "event": "preview",
/**
 * Steps done of this image.
 */
step: number,
/**
 * Which image of the batch, from 0.
 */
image: number,
/**
 * The encoded picture in base64.
 */
b64_json: string,
/**
 * Its type.
 */
mime_type: string,
/**
 * Pixels across (may be smaller than the image).
 */
width: number,
/**
 * Pixels down.
 */
height: number, } | { "event": "image" } & ImageResult | { "event": "complete",
/**
 * The images, without pixels.
 */
images: Array<ImageResult>,
/**
 * How long it took.
 */
timings: Timings,
/**
 * The single image's pixels, unless the response format is `url` or an `image` event carried them.
 */
image_base64?: string, } | { "event": "error",
/**
 * Why.
 */
error: ErrorObject, } | { "event": "cancelled",
/**
 * Steps done of the image that was being drawn.
 */
step: number, });

/**
 * `job_` and a ULID in lower case; made by the server only.
 */
export type JobId = string;

/**
 * The body of `POST /v1/jobs`. Only `prompt` is required; every other default comes from the model.
 */
export type JobRequest = {
/**
 * What to draw: 1–4000 characters.
 */
prompt: Prompt,
/**
 * What kind of drawing; follows from the other fields when left out.
 */
task?: Task | null,
/**
 * Which model draws; the worker's first when left out.
 */
model?: ModelId | null,
/**
 * What to steer away from.
 */
negative_prompt?: NegativePrompt | null,
/**
 * Pixels across: a multiple of 8 within the model's bounds.
 */
width?: Dimension | null,
/**
 * Pixels down: a multiple of 8 within the model's bounds.
 */
height?: Dimension | null,
/**
 * Denoising steps, 1–150.
 */
steps?: Steps | null,
/**
 * How strongly the prompt steers, 0–30.
 */
guidance_scale?: GuidanceScale | null,
/**
 * Drawn at random when left out.
 */
seed?: Seed | null,
/**
 * How many images, 1–8; image `n` uses seed + n.
 */
n?: BatchSize | null,
/**
 * Which scheduler; names and aliases are at `/v1/schedulers`.
 */
scheduler?: SchedulerName | null,
/**
 * Sends previews while it draws.
 */
preview?: Preview | null,
/**
 * File format of the images.
 */
output_format?: OutputFormat | null,
/**
 * How the images reach the client.
 */
response_format?: ResponseFormat | null,
/**
 * Cancels the job when the last stream reader goes away.
 */
cancel_on_disconnect?: boolean | null, };

/**
 * Where a job stands. The last three are final.
 */
export type JobStatus = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/**
 * A model that this worker can draw with.
 */
export type Model = {
/**
 * What a job names it by.
 */
id: ModelId,
/**
 * Always `model`.
 */
object: string,
/**
 * Unix time, in seconds, at which the worker found it (OpenAI's clients expect the field).
 */
created: number,
/**
 * Always `scumble`.
 */
owned_by: string,
/**
 * Its family, as read from its files: `sd1`, `sd2`, `sdxl`, ….
 */
family: string,
/**
 * Whether its weights are in memory.
 */
loaded: boolean,
/**
 * What it can do.
 */
tasks: Array<Task>,
/**
 * What a job gets that asks for nothing.
 */
defaults: ModelDefaults,
/**
 * What a job may ask for.
 */
limits: ModelLimits,
/**
 * Prompts that it draws well.
 */
examples: Array<string>,
/**
 * The words it knows, where its files say so (small models know few).
 */
vocabulary: ModelVocabulary | null, };

/**
 * What a job gets that asks for nothing.
 */
export type ModelDefaults = {
/**
 * Pixels across.
 */
width: number,
/**
 * Pixels down.
 */
height: number,
/**
 * Denoising steps.
 */
steps: number,
/**
 * Guidance scale.
 */
guidance_scale: number,
/**
 * Scheduler.
 */
scheduler: SchedulerName, };

/**
 * A model's id as `/v1/models` lists it. Looked up in a table, never joined to a path.
 */
export type ModelId = string;

/**
 * What a job may ask for.
 */
export type ModelLimits = {
/**
 * Width in pixels.
 */
width: DimensionRange,
/**
 * Height in pixels.
 */
height: DimensionRange,
/**
 * Tokens of one chunk of the text encoder, start and end marks included.
 */
prompt_tokens: number, };

/**
 * `GET /v1/models`, in the shape that OpenAI's clients also read.
 */
export type ModelList = {
/**
 * Always `list`.
 */
object: string,
/**
 * The models, the default one first.
 */
data: Array<Model>, };

/**
 * The words that a small model knows.
 */
export type ModelVocabulary = {
/**
 * Things.
 */
objects: Array<string>,
/**
 * Ways of drawing them.
 */
styles: Array<string>,
/**
 * Colours of plain backgrounds.
 */
colors: Array<string>,
/**
 * Places.
 */
scenes: Array<string>, };

/**
 * What to steer away from: at most 4000 characters; may be empty.
 */
export type NegativePrompt = string;

/**
 * A request with every default filled in: what is drawn, stored and echoed.
 */
export type NormalizedRequest = {
/**
 * What kind of drawing.
 */
task: Task,
/**
 * Which model draws.
 */
model: ModelId,
/**
 * What to draw.
 */
prompt: Prompt,
/**
 * What to steer away from.
 */
negative_prompt: NegativePrompt,
/**
 * Pixels across.
 */
width: Dimension,
/**
 * Pixels down.
 */
height: Dimension,
/**
 * Denoising steps.
 */
steps: Steps,
/**
 * How strongly the prompt steers.
 */
guidance_scale: GuidanceScale,
/**
 * The first image's seed.
 */
seed: Seed,
/**
 * How many images.
 */
n: BatchSize,
/**
 * Which scheduler, by its main name.
 */
scheduler: SchedulerName,
/**
 * Whether and how often previews are sent.
 */
preview: Preview | null,
/**
 * File format of the images.
 */
output_format: OutputFormat,
/**
 * How the images reach the client.
 */
response_format: ResponseFormat,
/**
 * Whether the job is cancelled when the last stream reader goes away.
 */
cancel_on_disconnect: boolean, };

/**
 * The file format of finished images.
 */
export type OutputFormat = "png" | "webp" | "jpeg";

/**
 * How often a look at the unfinished image is sent.
 */
export type Preview = {
/**
 * Steps between two previews.
 */
every: number,
/**
 * Their file format.
 */
format?: PreviewFormat, };

/**
 * The file format of previews.
 */
export type PreviewFormat = "webp" | "png" | "jpeg";

/**
 * What to draw: 1–4000 characters, not only white space.
 */
export type Prompt = string;

/**
 * How finished images reach the client.
 */
export type ResponseFormat = "b64_json" | "url";

/**
 * A way through the noise.
 */
export type Scheduler = {
/**
 * What a job names it by.
 */
name: SchedulerName,
/**
 * What a menu shows.
 */
label: string,
/**
 * Other names it answers to.
 */
aliases: Array<string>, };

/**
 * `GET /v1/schedulers`.
 */
export type SchedulerList = {
/**
 * The schedulers, in the order a menu would show them.
 */
data: Array<Scheduler>, };

/**
 * A scheduler's name as `/v1/schedulers` lists it.
 */
export type SchedulerName = string;

/**
 * Where the noise starts from. JavaScript cannot hold every u64, so seeds above 2^53−1 travel as decimal strings;
 * both forms are accepted for any seed.
 */
export type Seed = number | string;

/**
 * Denoising steps, 1–150.
 */
export type Steps = number;

/**
 * What kind of drawing a job is.
 */
export type Task = "text_to_image";

/**
 * How long each part of a job took, in milliseconds.
 */
export type Timings = {
/**
 * From accepted to taken by an engine.
 */
queue_ms: number,
/**
 * Text to embeddings.
 */
encode_ms: number,
/**
 * All denoising steps.
 */
denoise_ms: number,
/**
 * Latents to pixels.
 */
decode_ms: number,
/**
 * From taken by an engine to the last image stored.
 */
total_ms: number, };
