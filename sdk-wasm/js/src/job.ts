import { AbortError, JobCancelledError, JobFailedError, invalidResponse, typedError } from "./errors.js";
import type { ImageResult, Job, JobEvent, Timings } from "./generated/protocol.js";
import { type GeneratedImage, decodeBase64, generatedImage } from "./images.js";
import { call, parseJson, read, release } from "./runtime.js";
import type { Client, EventStream } from "./wasm/scumble_sdk.js";

/** What every call takes. */
export interface CallOptions {
  /** Ends the call: it rejects with an {@link AbortError}. */
  signal?: AbortSignal | undefined;
}

/** What a job gives when it has succeeded. */
export interface GenerateResult {
  /** The images, in the order of the batch. */
  images: GeneratedImage[];
  /** How long each part took. */
  timings: Timings;
  /** The job as it ended, with the request as it was drawn (the seed included). */
  job: Job;
  /** What was adjusted or could not be honoured. */
  warnings: string[];
}

/** An open event stream; more than one never exists for a job. */
interface Connection {
  readonly abort: AbortController;
  readonly stream: EventStream;
}

/**
 * A job on the worker. Iterate it for its events, ask for its `result()`, or both: one connection serves everybody,
 * and it is open only while somebody listens.
 *
 * ```ts
 * for await (const event of job) if (event.event === "progress") console.log(event.step, event.total);
 * const { images } = await job.result();
 * ```
 */
export class ScumbleJob implements AsyncIterable<JobEvent> {
  /** The job's id: keep it to come back to the job with `scumble.job(id)`. */
  readonly id: string;
  /** The job as the worker accepted it, with every default filled in; `undefined` for one taken up by its id. */
  readonly accepted: Job | undefined;
  readonly #client: Client;
  /** Every event so far, but for previews that a newer one replaced (those are `undefined`). */
  readonly #log: (JobEvent | undefined)[] = [];
  readonly #latestPreviews = new Map<number, number>();
  readonly #images = new Map<number, Promise<GeneratedImage>>();
  readonly #waiting = new Set<() => void>();
  #lastSeq: number | undefined;
  #listeners = 0;
  #connection: Connection | undefined;
  #failure: Error | undefined;
  #ended = false;

  private constructor(client: Client, id: string, after: number | undefined, accepted: Job | undefined) {
    this.#client = client;
    this.id = id;
    this.accepted = accepted;
    this.#lastSeq = after;
  }

  /** @internal */
  static of(client: Client, id: string, after?: number, accepted?: Job): ScumbleJob {
    return new ScumbleJob(client, id, after, accepted);
  }

  /** The job's events, from the first (or the one after `after`) to the last. */
  [Symbol.asyncIterator](): AsyncIterableIterator<JobEvent> {
    return this.events();
  }

  /**
   * The job's events as typed objects. Each iteration sees all of them, but for previews that a newer one has
   * replaced meanwhile. It ends after `complete`, `error` or `cancelled`; a lost connection is resumed without a gap
   * or a repeat, and only one that cannot be resumed throws.
   */
  async *events(options: CallOptions = {}): AsyncGenerator<JobEvent, void, undefined> {
    const stopListening = this.#listen();
    try {
      let next = 0;
      for (;;) {
        if (options.signal?.aborted) throw new AbortError(options.signal.reason);
        while (next < this.#log.length) {
          const event = this.#log[next];
          next += 1;
          if (event) yield event;
        }
        if (this.#ended) return;
        if (this.#failure) throw this.#failure;
        await withSignal(this.#news(), options.signal);
      }
    } finally {
      stopListening();
    }
  }

  /**
   * Waits for the job's end and gives its images.
   *
   * @throws JobFailedError if the job failed, JobCancelledError if somebody cancelled it, ConnectionError if the worker
   * is lost for good, AbortError if the signal fires (which does not cancel the job).
   */
  async result(options: CallOptions = {}): Promise<GenerateResult> {
    for await (const event of this.events(options)) throwIfLost(event);
    const job = await this.get(options);
    if (job.status === "cancelled") throw new JobCancelledError(0);
    if (job.status === "failed" && job.error) throw new JobFailedError(job.error);
    if (job.status !== "succeeded" || !job.timings) throw invalidResponse(`job ${job.job_id} has no result`);
    const images = await Promise.all(job.images.map((image) => this.image(image.index, options)));
    return { images, timings: job.timings, job, warnings: job.warnings };
  }

  /** The image at this place of the batch, as soon as it is finished; before the job's end for the early ones. */
  image(index: number, options: CallOptions = {}): Promise<GeneratedImage> {
    let image = this.#images.get(index);
    if (!image) {
      image = this.#fetchImage(index);
      this.#images.set(index, image);
      image.catch(() => this.#images.delete(index));
    }
    return withSignal(image, options.signal);
  }

  /** Cancels the job; takes effect within one denoising step. Resolves, too, when the job has already ended. */
  async cancel(options: CallOptions = {}): Promise<void> {
    await call(options.signal, (stop) => this.#client.cancel(this.id, stop) as Promise<unknown>);
  }

  /** The job as the server sees it now. */
  async get(options: CallOptions = {}): Promise<Job> {
    const path = `/v1/jobs/${encodeURIComponent(this.id)}`;
    return parseJson(await read(this.#client, path, options.signal)) as Job;
  }

  async #fetchImage(index: number): Promise<GeneratedImage> {
    const image = await this.#finishedImage(index);
    if (image.image_base64 !== undefined) return generatedImage(decodeBase64(image.image_base64), image);
    const path = `/v1/jobs/${encodeURIComponent(this.id)}/images/${String(index)}`;
    return generatedImage(await read(this.#client, path, undefined), image);
  }

  async #finishedImage(index: number): Promise<ImageResult> {
    for await (const event of this.events()) {
      if (event.event === "image" && event.index === index) return event;
      if (event.event === "complete") {
        const image = event.images.find((candidate) => candidate.index === index);
        if (!image) break;
        return event.image_base64 === undefined ? image : { ...image, image_base64: event.image_base64 };
      }
      throwIfLost(event);
    }
    // Reattached after its `image` event: the job itself still knows it.
    const image = (await this.get()).images.find((candidate) => candidate.index === index);
    if (!image) throw invalidResponse(`job ${this.id} has no image ${String(index)}`);
    return image;
  }

  /** Keeps the stream open until the returned function is called. */
  #listen(): () => void {
    this.#listeners += 1;
    this.#open();
    return () => {
      this.#listeners -= 1;
      // Whoever stops and starts again in one go (React's StrictMode does) keeps the connection.
      queueMicrotask(() => {
        if (this.#listeners === 0) this.#connection?.abort.abort();
      });
    };
  }

  #open(): void {
    if (this.#ended || this.#connection) return;
    this.#failure = undefined;
    const stream = openStream(this.#client, this.id, this.#lastSeq);
    this.#connection = { abort: new AbortController(), stream };
    void this.#pump(this.#connection);
  }

  async #pump(connection: Connection): Promise<void> {
    const { abort, stream } = connection;
    try {
      for (;;) {
        const json = await call(abort.signal, (stop) => stream.next(stop));
        if (json === undefined) break;
        this.#record(parseJson(json) as JobEvent);
      }
      this.#ended = true;
    } catch (error) {
      if (!abort.signal.aborted) this.#failure = error as Error;
    } finally {
      this.#connection = undefined;
      release(stream);
      // Somebody may have begun to listen between the abort and here.
      if (abort.signal.aborted && this.#listeners > 0) this.#open();
      this.#wake();
    }
  }

  #record(event: JobEvent): void {
    this.#lastSeq = event.seq;
    if (event.event === "preview") {
      const replaced = this.#latestPreviews.get(event.image);
      if (replaced !== undefined) this.#log[replaced] = undefined;
      this.#latestPreviews.set(event.image, this.#log.length);
    }
    this.#log.push(event);
    this.#wake();
  }

  #news(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}

function openStream(client: Client, id: string, after: number | undefined): EventStream {
  try {
    return client.events(id, after);
  } catch (thrown) {
    throw typedError(thrown);
  }
}

function throwIfLost(event: JobEvent): void {
  if (event.event === "cancelled") throw new JobCancelledError(event.step);
  if (event.event === "error") throw new JobFailedError(event.error);
}

/** Waits for `promise`, or rejects as soon as the signal fires; `promise` goes on by itself. */
export function withSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => {
      reject(new AbortError(signal.reason));
    };
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", onAbort);
    });
  });
}
