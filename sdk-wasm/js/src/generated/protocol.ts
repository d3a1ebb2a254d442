// Written by `cargo xtask generate` from worker/crates/protocol; edits here are lost.

/**
 * Images in one job, 1–8.
 */
export type BatchSize = number;

/**
 * Last layers of the text encoder that are left out, 0–32.
 */
export type ClipSkip = number;

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
export type ErrorCode = "invalid_json" | "invalid_value" | "unknown_field" | "missing_field" | "model_not_found" | "scheduler_not_found" | "not_found" | "method_not_allowed" | "unsupported_media_type" | "payload_too_large" | "request_timeout" | "job_finished" | "idempotency_key_reused" | "invalid_api_key" | "forbidden_origin" | "invalid_image" | "lora_not_found" | "queue_full" | "uploads_full" | "model_loading" | "draining" | "storage_unavailable" | "model_load_failed" | "drawing_failed" | "attempts_exhausted" | "internal_error" | "job_cancelled" | "connection_failed" | "invalid_response" | "timeout" | "aborted" | "unknown";

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
 * How much of the prediction's spread is taken back to what it was without guidance, 0–1.
 */
export type GuidanceRescale = number;

/**
 * How strongly the prompt steers, 0–30; 1 and below turn classifier-free guidance off.
 */
export type GuidanceScale = number;

/**
 * An image that a job was given, by what it is instead of by its bytes.
 */
export type ImageInput = {
/**
 * SHA-256 of the file, in hexadecimal.
 */
sha256: string,
/**
 * Pixels across, turned upright as its EXIF orientation says.
 */
width: number,
/**
 * Pixels down.
 */
height: number,
/**
 * `image/png`, `image/webp` or `image/jpeg`: what the bytes are, whatever they were called.
 */
mime_type: string, };

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
 * An image in a request: its file in base64, as a `data:` URL or not, or the id of an upload. URLs are never
 * fetched.
 */
export type ImageSource = string;

/**
 * What is under the mask before drawing begins.
 */
export type InpaintFill = "original" | "noise" | "blur" | "fill";

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
 * The image to start from: its file (PNG, JPEG or WebP) in base64, as a `data:` URL or not, or the id of an upload.
 */
init_image?: ImageSource | null,
/**
 * How much of the image is given up to noise, above 0 and at most 1; 0.75 when left out.
 */
strength?: Strength | null,
/**
 * Which part is drawn anew (white); given as `init_image` is.
 */
mask?: ImageSource | null,
/**
 * The standard deviation of the blur that the mask gets, 0–64 pixels; 4 when left out.
 */
mask_blur?: MaskBlur | null,
/**
 * Whether black is drawn anew instead of white.
 */
mask_invert?: boolean | null,
/**
 * Draws nothing but the masked part, at the whole size of the result.
 */
only_masked?: boolean | null,
/**
 * Pixels around the masked part that are drawn along with it, 0–1024; 32 when left out.
 */
only_masked_padding?: OnlyMaskedPadding | null,
/**
 * What is under the mask before drawing begins.
 */
inpaint_fill?: InpaintFill | null,
/**
 * Pixels added to the image's edges, to be drawn.
 */
outpaint?: Outpaint | null,
/**
 * Last layers of the text encoder that are left out, 0–32.
 */
clip_skip?: ClipSkip | null,
/**
 * How much of the prediction's spread is taken back to what it was without guidance, 0–1.
 */
guidance_rescale?: GuidanceRescale | null,
/**
 * At most 8 LoRAs.
 */
loras?: Array<LoraChoice> | null,
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
 * Whether the images' files say how they were drawn; yes when left out.
 */
metadata?: boolean | null,
/**
 * Cancels the job when the last stream reader goes away.
 */
cancel_on_disconnect?: boolean | null, };

/**
 * Where a job stands. The last three are final.
 */
export type JobStatus = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/**
 * A LoRA that this worker can draw with, as the header of its file says.
 */
export type Lora = {
/**
 * What a job names it by.
 */
name: LoraName,
/**
 * The family of the models that it was made for, as models have it, where the file tells.
 */
family: string | null,
/**
 * The same in words, other families included.
 */
base: string | null,
/**
 * Its title, where the file has one.
 */
title: string | null,
/**
 * Words for the prompt, as its author gave them.
 */
trigger_phrase: string | null,
/**
 * What its training images were tagged with, the most frequent first.
 */
tags: Array<LoraTag>,
/**
 * How its changes are written down: `lora`, `dora`, `loha`, `lokr`, `full`.
 */
kinds: Array<string>,
/**
 * Layers that it changes, by the part of the model that they are in.
 */
targets: Record<string, number>,
/**
 * Smallest rank of its layers, where they have one.
 */
rank_min: number | null,
/**
 * Greatest rank.
 */
rank_max: number | null,
/**
 * The alpha that it was trained with, where the file tells.
 */
alpha: number | null,
/**
 * Bytes of its file.
 */
size_bytes: number, };

/**
 * A LoRA and how strongly it counts.
 */
export type LoraChoice = {
/**
 * Which.
 */
name: LoraName,
/**
 * How strongly; 1 when left out.
 */
scale?: LoraScale, };

/**
 * `GET /v1/loras`.
 */
export type LoraList = {
/**
 * The LoRAs by name.
 */
data: Array<Lora>, };

/**
 * A LoRA's name as the worker lists it. Looked up in a table, never joined to a path.
 */
export type LoraName = string;

/**
 * How strongly a LoRA counts, −4–4; negative ones steer away from it.
 */
export type LoraScale = number;

/**
 * A word that training images were tagged with.
 */
export type LoraTag = {
/**
 * The word or words.
 */
tag: string,
/**
 * How many images had it.
 */
images: number, };

/**
 * The standard deviation of the blur that a mask gets, 0–64 pixels.
 */
export type MaskBlur = number;

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
 * Bytes that its weights take in the engine's memory, loaded or not.
 */
size_bytes: number,
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
 * The image that it starts from.
 */
init_image?: ImageInput,
/**
 * How much of the image is given up to noise; only with an image.
 */
strength?: Strength,
/**
 * Which part is drawn anew.
 */
mask?: ImageInput,
/**
 * The standard deviation of the blur that the mask gets, in pixels; only for an inpaint, as what follows.
 */
mask_blur?: MaskBlur,
/**
 * Whether black is drawn anew instead of white.
 */
mask_invert?: boolean,
/**
 * Whether nothing but the masked part is drawn, at the whole size of the result.
 */
only_masked?: boolean,
/**
 * Pixels around the masked part that are drawn along with it; only with `only_masked`.
 */
only_masked_padding?: OnlyMaskedPadding,
/**
 * What is under the mask before drawing begins.
 */
inpaint_fill?: InpaintFill,
/**
 * Pixels added to the image's edges.
 */
outpaint?: Outpaint,
/**
 * Last layers of the text encoder that are left out.
 */
clip_skip: ClipSkip,
/**
 * How much of the prediction's spread is taken back to what it was without guidance.
 */
guidance_rescale: GuidanceRescale,
/**
 * LoRAs, in the order in which they are added.
 */
loras: Array<LoraChoice>,
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
 * Whether the images' files say how they were drawn.
 */
metadata: boolean,
/**
 * Whether the job is cancelled when the last stream reader goes away.
 */
cancel_on_disconnect: boolean, };

/**
 * Pixels around the masked part that are drawn along with it, 0–1024.
 */
export type OnlyMaskedPadding = number;

/**
 * Pixels added to an image's edges, to be drawn.
 */
export type Outpaint = {
/**
 * On the left.
 */
left?: number,
/**
 * On top.
 */
top?: number,
/**
 * On the right.
 */
right?: number,
/**
 * At the bottom.
 */
bottom?: number, };

/**
 * The file format of finished images.
 */
export type OutputFormat = "png" | "webp" | "jpeg";

/**
 * One text in a picture's file.
 */
export type PictureText = {
/**
 * The PNG keyword, or the EXIF field.
 */
key: string,
/**
 * The text, cut where it is too long.
 */
text: string, };

/**
 * The answer of `POST /v1/png-info`: what a picture's file says about how it was drawn.
 */
export type PngInfo = {
/**
 * Which program wrote it, if that can be told.
 */
source: TextSource | null,
/**
 * A1111's text, as it stands in the file.
 */
parameters: string | null,
/**
 * The same in the words of a job, as far as it can be understood.
 */
request: ReadParameters | null,
/**
 * The request that draws the picture, where a worker of this kind wrote it.
 */
scumble: NormalizedRequest | null,
/**
 * Every text in the file, as it stands there.
 */
texts: Array<PictureText>,
/**
 * Pixels across.
 */
width: number,
/**
 * Pixels down.
 */
height: number,
/**
 * What could not be read.
 */
warnings: Array<string>, };

/**
 * The body of `POST /v1/png-info` where it is JSON.
 */
export type PngInfoRequest = {
/**
 * The picture's file in base64, as a `data:` URL or not, or the id of an upload.
 */
image: ImageSource, };

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
 * A1111's text in the words of a job. What is missing there, or is out of a job's bounds, is missing here.
 */
export type ReadParameters = {
/**
 * What was to be drawn.
 */
prompt?: string,
/**
 * What was to be steered away from.
 */
negative_prompt?: string,
/**
 * Denoising steps.
 */
steps?: Steps,
/**
 * Scheduler, by the name that it has here.
 */
scheduler?: SchedulerName,
/**
 * How strongly the prompt steered.
 */
guidance_scale?: GuidanceScale,
/**
 * The seed.
 */
seed?: Seed,
/**
 * Pixels across.
 */
width?: number,
/**
 * Pixels down.
 */
height?: number,
/**
 * The model's name there, which need not be one of this worker's.
 */
model?: string,
/**
 * How much of the image was given up to noise.
 */
strength?: Strength,
/**
 * The blur that the mask got.
 */
mask_blur?: MaskBlur,
/**
 * Last layers of the text encoder that were left out.
 */
clip_skip?: ClipSkip,
/**
 * LoRAs that the prompt named, and names there no more.
 */
loras?: Array<LoraChoice>,
/**
 * Every field of the last line, as it stands there.
 */
fields?: { [key in string]: string }, };

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
 * How much of an image is given up to noise: above 0, at most 1.
 */
export type Strength = number;

/**
 * What kind of drawing a job is.
 */
export type Task = "text_to_image" | "image_to_image" | "inpaint";

/**
 * Which program wrote a picture's text.
 */
export type TextSource = "scumble" | "automatic1111" | "comfyui" | "invokeai";

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

/**
 * How many tokens a prompt takes: what `POST /v1/tokenize` answers.
 */
export type TokenCount = {
/**
 * Which model reads it.
 */
model: ModelId,
/**
 * Tokens of the whole prompt; brackets, weights and `BREAK` are none.
 */
tokens: number,
/**
 * The same for each chunk that the text encoder reads, at least one. They add up to `tokens`.
 */
chunks: Array<number>,
/**
 * How many of them fit in one chunk.
 */
chunk_tokens: number,
/**
 * Always false: a longer prompt is read in more chunks.
 */
truncated: boolean, };

/**
 * The body of `POST /v1/tokenize`.
 */
export type TokenizeRequest = {
/**
 * What is counted: a prompt or a negative prompt, at most 4000 characters. May be empty: it is being typed.
 */
prompt: string,
/**
 * Which model reads it; the worker's first when left out.
 */
model?: ModelId | null, };

/**
 * An image that the worker keeps for a while: the body of `GET /v1/uploads/{id}` and of the 201 that made it.
 */
export type Upload = {
/**
 * What a job names it by, as `init_image` or `mask`.
 */
id: UploadId,
/**
 * SHA-256 of the file, in hexadecimal.
 */
sha256: string,
/**
 * Pixels across, turned upright as its EXIF orientation says.
 */
width: number,
/**
 * Pixels down.
 */
height: number,
/**
 * `image/png`, `image/webp` or `image/jpeg`: what the bytes are, whatever they were called.
 */
mime_type: string,
/**
 * Bytes of the file.
 */
bytes: number,
/**
 * When it came (RFC 3339, UTC).
 */
created_at: string,
/**
 * When it goes (RFC 3339, UTC); jobs that use it keep their own hold on it.
 */
expires_at: string, };

/**
 * `upload_` and a ULID in lower case; made by the server only.
 */
export type UploadId = string;
