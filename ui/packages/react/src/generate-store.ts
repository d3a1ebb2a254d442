import {
  type GenerateRequest,
  type GenerateResult,
  type GeneratedImage,
  type Job,
  JobCancelledError,
  type JobEvent,
  type Scumble,
  type ScumbleError,
  type ScumbleJob,
  type Timings,
} from "@scumble/sdk";
import { asScumbleError } from "./errors.js";
import { type Store, createStore } from "./store.js";

/** Where a drawing stands. The last three are final. */
export type GenerateStatus =
  "idle" | "submitting" | "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** How far the drawing is. */
export interface GenerateProgress {
  /** Steps done of the image being drawn. */
  step: number;
  /** Steps per image. */
  total: number;
  /** Which image of the batch, from 0. */
  image: number;
  /** Images in the batch. */
  images: number;
  /** Done of the whole job, 0..1; never goes back. */
  fraction: number;
  /** Since the job started. */
  elapsedMs: number;
  /** Estimated time to the end of the job. */
  etaMs: number;
  /** Measured over this job so far. */
  stepsPerSecond: number;
}

/** A look at the unfinished image. */
export interface GeneratePreview {
  /** A `data:` URL: nothing to give back. */
  src: string;
  /** Steps done when it was taken. */
  step: number;
  /** Which image of the batch, from 0. */
  image: number;
  /** Pixels across (may be smaller than the image). */
  width: number;
  /** Pixels down. */
  height: number;
}

/** A finished image, ready to be shown. */
export interface HookImage {
  /** An object URL; given back on the next `generate`, `attach` or `reset` and when the component is gone. */
  src: string;
  /** The encoded file. */
  blob: Blob;
  /** The seed that draws this very image alone. */
  seed: number | string;
  /** Pixels across. */
  width: number;
  /** Pixels down. */
  height: number;
  /** `image/png`, `image/webp` or `image/jpeg`. */
  mimeType: string;
  /** Place in the batch, from 0. */
  index: number;
}

/** All that is known of a drawing. */
export interface GenerateState {
  /** Where it stands. A final status is published together with the last data, never before. */
  status: GenerateStatus;
  /** The job's id, as soon as it is accepted. Store it to `attach` after a reload. */
  jobId: string | null;
  /** Place in the queue while queued; 1 is next. */
  position: number | null;
  /** Estimated wait in the queue, in milliseconds. */
  waitMs: number | null;
  /** What draws: `cpu`, `cuda:0`, `metal`. */
  device: string | null;
  /** How far it is, once it runs. */
  progress: GenerateProgress | null;
  /** The newest look at the unfinished image. */
  preview: GeneratePreview | null;
  /** The finished images, each as soon as it is there. */
  images: readonly HookImage[];
  /** The job with the request as it is drawn: as accepted, and again as it ended. */
  job: Job | null;
  /** How long each part took. */
  timings: Timings | null;
  /** What was adjusted or could not be honoured. */
  warnings: readonly string[];
  /** Why it failed. */
  error: ScumbleError | null;
}

/** What a component may want to be told, and how it wants to be left. */
export interface UseGenerateOptions {
  /** Cancels the job on the worker when the component goes; otherwise only the listening ends. */
  cancelOnUnmount?: boolean | undefined;
  /** Every event of the job, in order. */
  onEvent?: ((event: JobEvent) => void) | undefined;
  /** The images are there and published. */
  onSuccess?: ((result: GenerateResult) => void) | undefined;
  /** It failed; the error is published. */
  onError?: ((error: ScumbleError) => void) | undefined;
  /** It was cancelled, by whomever. */
  onCancel?: (() => void) | undefined;
}

/** What can be done with a drawing. The functions never change and never reject. */
export interface GenerateActions {
  /**
   * Draws. Resolves to the result, or to `undefined` where it failed, was cancelled or was replaced by a later call:
   * the state says which. A drawing under way is no longer listened to, but is not cancelled on the worker.
   */
  readonly generate: (request: GenerateRequest) => Promise<GenerateResult | undefined>;
  /** Takes up a job by its id, after a reload; otherwise as `generate`. */
  readonly attach: (jobId: string) => Promise<GenerateResult | undefined>;
  /** Cancels the job on the worker; the status follows when the worker confirms. */
  readonly cancel: () => Promise<void>;
  /** Back to idle. Stops listening; does not cancel. */
  readonly reset: () => void;
}

/** The framework-free core of `useGenerate`. */
export interface GenerateStore extends Store<GenerateState>, GenerateActions {
  /** What the next event will be told to. */
  readonly setOptions: (options: UseGenerateOptions) => void;
}

/** What is shown before anything was asked for, and on a server. */
export const IDLE: GenerateState = {
  status: "idle",
  jobId: null,
  position: null,
  waitMs: null,
  device: null,
  progress: null,
  preview: null,
  images: [],
  job: null,
  timings: null,
  warnings: [],
  error: null,
};

/** One drawing, from the call to its end or its replacement. */
interface Run {
  /** Ends the listening. */
  readonly listening: AbortController;
  /** Ends the submitting, and with it the job. */
  readonly submitting: AbortController;
  readonly shown: Map<number, GeneratedImage>;
  job: ScumbleJob | undefined;
  /** Settles with the drawing; set as soon as it is begun. */
  outcome: Promise<GenerateResult | undefined>;
}

/** Makes a drawing's store over a client that is made at its first use. */
export function createGenerateStore(connect: () => Promise<Scumble>): GenerateStore {
  let options: UseGenerateOptions = {};
  let current: Run | undefined;

  const store = createStore<GenerateState>(IDLE, onWatched, onForgotten);

  /** Publishes, unless the drawing has been replaced or nobody watches any more. */
  const publish = (run: Run, change: Partial<GenerateState>): boolean => {
    if (run !== current || run.listening.signal.aborted) return false;
    store.set({ ...store.getSnapshot(), ...change });
    return true;
  };

  function begin(first: Partial<GenerateState>, open: (run: Run) => Promise<ScumbleJob>): Run {
    if (current) leave(current);
    const run: Run = {
      listening: new AbortController(),
      submitting: new AbortController(),
      shown: new Map(),
      job: undefined,
      outcome: Promise.resolve(undefined),
    };
    current = run;
    store.set({ ...IDLE, ...first });
    run.outcome = draw(run, open);
    return run;
  }

  /** Stops listening and gives the object URLs back. */
  function leave(run: Run): void {
    run.listening.abort();
    for (const image of run.shown.values()) image.revoke();
    run.shown.clear();
  }

  async function draw(
    run: Run,
    open: (run: Run) => Promise<ScumbleJob>,
  ): Promise<GenerateResult | undefined> {
    const { signal } = run.listening;
    try {
      const job = await open(run);
      run.job = job;
      publish(run, { jobId: job.id });
      for await (const event of job.events({ signal })) {
        if (run !== current) return undefined;
        const change = changeOf(event, store.getSnapshot());
        if (change) publish(run, change);
        if (event.event === "image") show(run, await job.image(event.index, { signal }));
        options.onEvent?.(event);
      }
      const result = await job.result({ signal });
      for (const image of result.images) run.shown.set(image.index, image);
      const published = publish(run, {
        status: "succeeded",
        job: result.job,
        timings: result.timings,
        warnings: result.warnings,
        images: shownImages(run),
        preview: null,
      });
      if (!published) return undefined;
      options.onSuccess?.(result);
      return result;
    } catch (thrown) {
      fail(run, thrown);
      return undefined;
    }
  }

  function show(run: Run, image: GeneratedImage): void {
    if (run !== current || run.listening.signal.aborted) return;
    run.shown.set(image.index, image);
    const { preview } = store.getSnapshot();
    publish(run, { images: shownImages(run), preview: preview?.image === image.index ? null : preview });
  }

  function fail(run: Run, thrown: unknown): void {
    const cancelled = thrown instanceof JobCancelledError || run.submitting.signal.aborted;
    if (cancelled) {
      if (publish(run, { status: "cancelled", position: null, waitMs: null })) options.onCancel?.();
      return;
    }
    const error = asScumbleError(thrown);
    if (publish(run, { status: "failed", error, position: null, waitMs: null })) options.onError?.(error);
  }

  async function open(run: Run, jobId: string): Promise<ScumbleJob> {
    const job = (await connect()).job(jobId);
    const known = await job.get({ signal: run.listening.signal });
    const status = known.status === "queued" || known.status === "running" ? known.status : "running";
    publish(run, { job: known, status, position: known.position, warnings: known.warnings });
    return job;
  }

  /** Comes back to what was left when everybody went: React's hidden trees do that. */
  function onWatched(): void {
    if (!current?.listening.signal.aborted) return;
    const { jobId } = store.getSnapshot();
    if (jobId === null) store.set(IDLE);
    else begin(store.getSnapshot(), (run) => open(run, jobId));
  }

  function onForgotten(): void {
    if (!current) return;
    leave(current);
    if (!options.cancelOnUnmount || isFinal(store.getSnapshot().status)) return;
    current.submitting.abort();
    void cancelQuietly(current);
  }

  return {
    getSnapshot: store.getSnapshot,
    subscribe: store.subscribe,
    setOptions(next) {
      options = next;
    },
    generate(request) {
      const submit = async (run: Run) => {
        const client = await connect();
        const job = await client.generate(request, { signal: run.submitting.signal });
        publish(run, {
          status: "queued",
          job: job.accepted ?? null,
          position: job.accepted?.position ?? null,
          warnings: job.accepted?.warnings ?? [],
        });
        return job;
      };
      return begin({ status: "submitting" }, submit).outcome;
    },
    attach(jobId) {
      // StrictMode runs effects twice: the second attach joins the first.
      const joins = current && !current.listening.signal.aborted && store.getSnapshot().jobId === jobId;
      if (joins && current) return current.outcome;
      return begin({ status: "submitting", jobId }, (run) => open(run, jobId)).outcome;
    },
    async cancel() {
      const run = current;
      if (!run || isFinal(store.getSnapshot().status)) return;
      if (!run.job) {
        run.submitting.abort();
        await run.outcome;
        return;
      }
      try {
        await run.job.cancel();
      } catch (thrown) {
        // The drawing goes on; that it could not be cancelled must still be seen.
        publish(run, { error: asScumbleError(thrown) });
      }
    },
    reset() {
      if (current) leave(current);
      current = undefined;
      store.set(IDLE);
    },
  };
}

function isFinal(status: GenerateStatus): boolean {
  return status === "idle" || status === "succeeded" || status === "failed" || status === "cancelled";
}

async function cancelQuietly(run: Run): Promise<void> {
  // Nobody is left to tell; a job that cannot be cancelled ends by itself.
  await run.job?.cancel().catch(() => undefined);
}

function shownImages(run: Run): HookImage[] {
  return [...run.shown.values()]
    .sort((left, right) => left.index - right.index)
    .map((image) => ({
      src: image.url(),
      blob: image.blob,
      seed: image.seed,
      width: image.width,
      height: image.height,
      mimeType: image.mimeType,
      index: image.index,
    }));
}

/** What an event changes. Final events change nothing here: the final status waits for the last data. */
function changeOf(event: JobEvent, state: GenerateState): Partial<GenerateState> | undefined {
  switch (event.event) {
    case "queued":
      return { status: "queued", position: event.position, waitMs: event.eta_ms };
    case "started":
      return { status: "running", device: event.device, position: null, waitMs: null };
    case "progress": {
      const images = state.job?.request.n ?? event.image + 1;
      const fraction = (event.image + event.step / event.total) / images;
      return {
        status: "running",
        progress: {
          step: event.step,
          total: event.total,
          image: event.image,
          images,
          fraction: Math.min(1, Math.max(fraction, state.progress?.fraction ?? 0)),
          elapsedMs: event.elapsed_ms,
          etaMs: event.eta_ms,
          stepsPerSecond: event.steps_per_second,
        },
      };
    }
    case "preview":
      return {
        preview: {
          src: `data:${event.mime_type};base64,${event.b64_json}`,
          step: event.step,
          image: event.image,
          width: event.width,
          height: event.height,
        },
      };
    default:
      return undefined;
  }
}
