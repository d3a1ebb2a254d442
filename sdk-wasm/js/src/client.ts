import { invalidResponse, invalidValue } from "./errors.js";
import type { Job, JobRequest, Model, ModelList, Scheduler, SchedulerList } from "./generated/protocol.js";
import { type CallOptions, ScumbleJob, withSignal } from "./job.js";
import { call, load, parseJson, read } from "./runtime.js";
import { Client, type Stop } from "./wasm/scumble_sdk.js";

/** What to draw: `prompt`, and whatever the model's defaults should not decide. */
export type GenerateRequest = Omit<JobRequest, "seed"> & {
  /** Drawn at random when left out. Above 2^53−1 a number is not exact: use a string or a bigint. */
  seed?: number | string | bigint | null;
};

/** Where the worker is, and how patient to be with it. */
export interface ConnectOptions {
  /** The worker's address. In a page: its origin when left out; elsewhere: `http://127.0.0.1:8600`. */
  baseUrl?: string | URL | undefined;
  /** Sent as `Authorization: Bearer …`. Anybody who can open the page can read it: keep keys on a server. */
  apiKey?: string | undefined;
  /** Sent with every request. */
  headers?: Record<string, string> | undefined;
  /** More attempts after the first when the worker is busy or cannot be reached; 3 when left out. */
  maxRetries?: number | undefined;
  /** Reconnections of an event stream in a row that bring nothing new; 10 when left out. */
  maxReconnects?: number | undefined;
  /** Time for one attempt, in milliseconds; for a stream, until it begins. 60,000 when left out. */
  timeoutMs?: number | undefined;
  /** Ends the connecting. */
  signal?: AbortSignal | undefined;
}

const DEFAULT_BASE_URL = "http://127.0.0.1:8600";
const MAX_RETRIES = 3;
const MAX_RECONNECTS = 10;
const TIMEOUT_MS = 60_000;

/**
 * A Scumble worker.
 *
 * ```ts
 * const scumble = await Scumble.connect({ baseUrl: "http://127.0.0.1:8600" });
 * const job = await scumble.generate({ prompt: "a red apple on a blue background" });
 * const { images } = await job.result();
 * ```
 */
export class Scumble {
  /** The worker's address, without a slash at the end. */
  readonly baseUrl: string;
  readonly #client: Client;

  private constructor(baseUrl: string, client: Client) {
    this.baseUrl = baseUrl;
    this.#client = client;
  }

  /** Loads the client. Makes no request to the worker: whether it is there, the first call tells. */
  static async connect(options: ConnectOptions = {}): Promise<Scumble> {
    const baseUrl = normaliseBaseUrl(options.baseUrl);
    const headers = headerLines(options);
    const maxRetries = count("maxRetries", options.maxRetries, MAX_RETRIES);
    const maxReconnects = count("maxReconnects", options.maxReconnects, MAX_RECONNECTS);
    const timeoutMs = count("timeoutMs", options.timeoutMs, TIMEOUT_MS);
    await withSignal(load(), options.signal);
    return new Scumble(baseUrl, new Client(baseUrl, headers, maxRetries, maxReconnects, timeoutMs));
  }

  /**
   * Submits a job and resolves as soon as the worker has accepted it. Busy and unreachable workers are tried again
   * under one idempotency key, so nothing is drawn twice. When the signal fires, now or later, the job is cancelled
   * on the worker.
   *
   * @throws ScumbleError with `param` where the request is at fault, ConnectionError, AbortError.
   */
  async generate(request: GenerateRequest, options: CallOptions = {}): Promise<ScumbleJob> {
    const { signal } = options;
    const body = JSON.stringify(request, jsonValue);
    const submitted = this.#submit(body, signal);
    // The worker may have accepted a job whose caller is gone: whenever its id arrives, it is cancelled.
    if (signal) {
      void submitted.then(
        (job) => {
          cancelOnAbort(job, signal);
        },
        () => undefined,
      );
    }
    return withSignal(submitted, signal);
  }

  /**
   * A job by its id, after a reload or from another machine. Makes no request until it is used.
   *
   * @param options.after - skips the events up to this sequence number.
   */
  job(id: string, options: { after?: number | undefined } = {}): ScumbleJob {
    return ScumbleJob.of(this.#client, id, options.after);
  }

  /** The models that this worker can draw with, the default one first. */
  async models(options: CallOptions = {}): Promise<Model[]> {
    return ((await this.#read("/v1/models", options)) as ModelList).data;
  }

  /** The schedulers, in the order a menu would show them. */
  async schedulers(options: CallOptions = {}): Promise<Scheduler[]> {
    return ((await this.#read("/v1/schedulers", options)) as SchedulerList).data;
  }

  async #submit(body: string, signal: AbortSignal | undefined): Promise<ScumbleJob> {
    const submit = (stop: Stop) =>
      this.#client.submit(body, idempotencyKey(), stop) as Promise<Uint8Array<ArrayBuffer>>;
    const accepted = parseJson(await call(signal, submit)) as Job;
    if (typeof accepted.job_id !== "string") throw invalidResponse("a job has no id");
    return ScumbleJob.of(this.#client, accepted.job_id, undefined, accepted);
  }

  async #read(path: string, options: CallOptions): Promise<unknown> {
    return parseJson(await read(this.#client, path, options.signal));
  }
}

function cancelOnAbort(job: ScumbleJob, signal: AbortSignal): void {
  const cancel = () => {
    // Nobody waits for it; a job that cannot be cancelled ends by itself.
    job.cancel().catch(() => undefined);
  };
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
}

/** JSON has no NaN, infinity or bigint: as text they reach the worker, which takes them or names the field. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)))
    return String(value);
  return value;
}

/** `crypto.randomUUID` exists on secure origins only; a worker on the local network has none. */
function idempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Checked as `fetch` would check them, so that a bad one is refused here, and written as lines. */
function headerLines({ apiKey, headers }: ConnectOptions): string {
  try {
    const checked = new Headers(headers);
    if (apiKey !== undefined) checked.set("authorization", `Bearer ${apiKey}`);
    return Array.from(checked, ([name, value]) => `${name}:${value}`).join("\n");
  } catch {
    throw invalidValue("headers", "and apiKey must be text that HTTP can carry");
  }
}

function normaliseBaseUrl(baseUrl: string | URL | undefined): string {
  const { location } = globalThis as { location?: { href: string; origin: string } };
  const origin = location && /^https?:/.test(location.origin) ? location.origin : undefined;
  let url: URL;
  try {
    url = new URL(baseUrl ?? origin ?? DEFAULT_BASE_URL, origin);
  } catch {
    throw invalidValue("baseUrl", `must be an http(s) address, got ${String(baseUrl)}`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw invalidValue("baseUrl", `must be an http(s) address, got ${url.href}`);
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, "");
}

function count(name: string, value: number | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (Number.isInteger(value) && value >= 0 && value <= 0x7fffffff) return value;
  throw invalidValue(name, `must be a whole number of 0..=2147483647, got ${String(value)}`);
}
