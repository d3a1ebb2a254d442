import type { Job, JobEvent, Scumble, ScumbleError } from "@scumble/sdk";
import { asScumbleError } from "./errors.js";
import { type Store, createStore } from "./store.js";

/** A job as it is followed by its id. */
export interface JobState {
  /** The job as the server last told: when it was first asked, and at its end. */
  job: Job | undefined;
  /** The newest event of its stream. */
  lastEvent: JobEvent | undefined;
  /** Why the job cannot be followed (a job that failed says so in `job.error`). */
  error: ScumbleError | undefined;
  /** Whether the job has not been read yet. */
  isLoading: boolean;
}

/** What is shown before a job was read, and on a server. */
export const UNREAD_JOB: JobState = {
  job: undefined,
  lastEvent: undefined,
  error: undefined,
  isLoading: true,
};

/** What is shown where there is no id. */
export const NO_JOB: JobState = { ...UNREAD_JOB, isLoading: false };

/** Follows a job from the first watcher to its end or to the last watcher's leaving. */
export function createJobStore(
  connect: () => Promise<Scumble>,
  id: string | null | undefined,
): Store<JobState> {
  let following: AbortController | undefined;
  const store = createStore<JobState>(
    id == null ? NO_JOB : UNREAD_JOB,
    () => {
      const ended = store.getSnapshot().job?.finished_at != null;
      if (id != null && !ended) {
        following = new AbortController();
        void follow(id, following.signal);
      }
    },
    () => {
      following?.abort();
    },
  );
  const update = (signal: AbortSignal, change: Partial<JobState>) => {
    if (!signal.aborted) store.set({ ...store.getSnapshot(), ...change });
  };
  const follow = async (jobId: string, signal: AbortSignal) => {
    try {
      const job = (await connect()).job(jobId);
      const first = await job.get({ signal });
      update(signal, { job: first, isLoading: false, error: undefined });
      if (first.finished_at !== null) return;
      for await (const lastEvent of job.events({ signal })) update(signal, { lastEvent });
      update(signal, { job: await job.get({ signal }) });
    } catch (thrown) {
      update(signal, { error: asScumbleError(thrown), isLoading: false });
    }
  };
  return { getSnapshot: store.getSnapshot, subscribe: store.subscribe };
}
