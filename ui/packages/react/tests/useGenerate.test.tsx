// The hooks in StrictMode, over the real SDK and a real worker.
import { Scumble, ScumbleError } from "@scumble/sdk";
import { act, cleanup, render, renderHook, waitFor } from "@testing-library/react";
import { type ReactNode, StrictMode, useEffect, useState } from "react";
import { afterEach, beforeEach, describe, expect, inject, it, vi } from "vitest";
import {
  type GenerateState,
  type UseGenerateOptions,
  ScumbleProvider,
  useGenerate,
  useJob,
  useModels,
  useSchedulers,
} from "../src/index.js";

const baseUrl = inject("workerAddress");
const APPLE = { prompt: "a red apple on a blue background", steps: 6, seed: 7 };
/** Long enough that a cancel always comes in time. */
const LONG = { ...APPLE, steps: 150, n: 8 };
const PATIENCE = { timeout: 110_000 };

/** The object URLs that are given out and not given back. */
const objectUrls = new Set<string>();
/** The addresses that were asked for, streams above all. */
let requests: { method: string; path: string }[] = [];
const realFetch = globalThis.fetch;

beforeEach(() => {
  requests = [];
  objectUrls.clear();
  let made = 0;
  // jsdom has no object URLs; counting them is all that these tests need.
  URL.createObjectURL = () => {
    made += 1;
    objectUrls.add(`blob:${made}`);
    return `blob:${made}`;
  };
  URL.revokeObjectURL = (url) => void objectUrls.delete(url);
  globalThis.fetch = (input, init) => {
    if (input instanceof Request) requests.push({ method: input.method, path: new URL(input.url).pathname });
    return realFetch(input, init);
  };
});

afterEach(() => {
  cleanup();
  globalThis.fetch = realFetch;
});

function Provider({ children }: { children: ReactNode }) {
  return (
    <StrictMode>
      <ScumbleProvider baseUrl={baseUrl}>{children}</ScumbleProvider>
    </StrictMode>
  );
}

/** Renders the hook and keeps every state that was ever rendered. */
function renderGenerate(options: UseGenerateOptions = {}) {
  const states: GenerateState[] = [];
  const rendered = renderHook(
    () => {
      const generate = useGenerate(options);
      states.push(generate);
      return generate;
    },
    { wrapper: Provider },
  );
  return { ...rendered, states };
}

function streams() {
  return requests.filter(({ path }) => path.endsWith("/stream")).length;
}

/** The job's end, seen by a client of its own. */
async function endOf(jobId: string): Promise<string> {
  const job = (await Scumble.connect({ baseUrl })).job(jobId);
  const events = job.events();
  while (!(await events.next()).done);
  return (await job.get()).status;
}

describe("useGenerate", () => {
  it("goes from idle to succeeded over one stream, with growing progress and a preview before the end", async () => {
    const { result, states } = renderGenerate();
    expect(result.current.status).toBe("idle");
    await act(() => result.current.generate({ ...APPLE, preview: { every: 2, format: "png" } }));

    const statuses = states.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1]);
    expect(statuses[0]).toBe("idle");
    expect(statuses[1]).toBe("submitting");
    expect(statuses.at(-2)).toBe("running");
    expect(statuses.at(-1)).toBe("succeeded");

    const fractions = states.flatMap(({ progress }) => (progress ? [progress.fraction] : []));
    expect(new Set(fractions).size).toBeGreaterThanOrEqual(3);
    expect(fractions).toEqual([...fractions].sort((left, right) => left - right));
    expect(fractions.at(-1)).toBe(1);
    const previewed = states.find(({ preview }) => preview);
    expect(previewed?.status).toBe("running");
    expect(previewed?.preview?.src).toMatch(/^data:image\/png;base64,/);
    expect(streams()).toBe(1);
  });

  it("publishes the final status together with the images, the job and the timings", async () => {
    const { result, states } = renderGenerate();
    await act(() => result.current.generate({ ...APPLE, n: 2 }));
    for (const state of states.filter(({ status }) => status === "succeeded")) {
      expect(state.images.map(({ index, seed }) => [index, seed])).toEqual([
        [0, 7],
        [1, 8],
      ]);
      expect(state.job?.status).toBe("succeeded");
      expect(state.timings?.total_ms).toBeGreaterThan(0);
      expect(state.preview).toBeNull();
    }
    const firstImage = states.findIndex(({ images }) => images.length === 1);
    const both = states.findIndex(({ images }) => images.length === 2);
    expect(firstImage).toBeGreaterThan(0);
    expect(firstImage).toBeLessThan(both);
    expect(new Set(result.current.images.map(({ src }) => src)).size).toBe(2);
  });

  it("calls the newest callbacks, after the state they speak of is published", async () => {
    const onSuccess = vi.fn();
    const events: string[] = [];
    const { result, rerender } = renderHook(
      ({ label }: { label: string }) =>
        useGenerate({
          onEvent: ({ event }) => events.push(`${label} ${event}`),
          onSuccess: ({ images }) => {
            onSuccess(label, images.length, result.current.status);
          },
        }),
      { wrapper: Provider, initialProps: { label: "old" } },
    );
    const drawing = result.current.generate(APPLE);
    rerender({ label: "new" });
    await act(() => drawing);
    expect(onSuccess).toHaveBeenCalledTimes(1);
    expect(onSuccess.mock.calls[0]?.slice(0, 2)).toEqual(["new", 1]);
    expect(events.at(-1)).toBe("new complete");
    expect(events.filter((event) => event.startsWith("old"))).toEqual([]);
  });

  it("says why in `error` and does not reject, and recovers with the next drawing", async () => {
    const onError = vi.fn();
    const { result } = renderGenerate({ onError });
    let outcome: unknown = "pending";
    await act(async () => {
      outcome = await result.current.generate({ ...APPLE, steps: 0 });
    });
    expect(outcome).toBeUndefined();
    expect(result.current.status).toBe("failed");
    expect(result.current.error).toBeInstanceOf(ScumbleError);
    expect(result.current.error).toMatchObject({ code: "invalid_value", param: "steps", status: 400 });
    expect(onError).toHaveBeenCalledExactlyOnceWith(result.current.error);
    await act(() => result.current.generate({ ...APPLE, steps: 1 }));
    expect(result.current.status).toBe("succeeded");
    expect(result.current.error).toBeNull();
  });

  it("cancels half-way, on the worker, too", async () => {
    const onCancel = vi.fn();
    const { result } = renderGenerate({ onCancel });
    const drawing = result.current.generate(LONG);
    await waitFor(() => {
      expect(result.current.progress?.step).toBeGreaterThanOrEqual(1);
    }, PATIENCE);
    await act(async () => {
      await result.current.cancel();
      await drawing;
    });
    expect(result.current.status).toBe("cancelled");
    expect(result.current.error).toBeNull();
    expect(onCancel).toHaveBeenCalledTimes(1);
    expect(await endOf(result.current.jobId ?? "")).toBe("cancelled");
  });

  it("cancels what is still being submitted", async () => {
    const { result } = renderGenerate();
    const drawing = result.current.generate(LONG);
    await act(async () => {
      await result.current.cancel();
      await drawing;
    });
    expect(result.current.status).toBe("cancelled");
  });

  it("listens to the newer of two drawings only, and leaves the older one alone", async () => {
    const { result } = renderGenerate();
    const first = result.current.generate({ ...APPLE, steps: 20 });
    await waitFor(() => {
      expect(result.current.jobId).not.toBeNull();
    }, PATIENCE);
    const firstId = result.current.jobId ?? "";
    await act(async () => {
      await result.current.generate({ ...APPLE, seed: 9 });
      expect(await first).toBeUndefined();
    });
    expect(result.current.jobId).not.toBe(firstId);
    expect(result.current.images[0]?.seed).toBe(9);
    expect(await endOf(firstId)).toBe("succeeded");
  });

  it("takes up a running job by its id, over one stream although StrictMode runs effects twice", async () => {
    const running = await (await Scumble.connect({ baseUrl })).generate({ ...APPLE, steps: 20 });
    const { result } = renderHook(
      () => {
        const drawing = useGenerate();
        const { attach } = drawing;
        useEffect(() => {
          void attach(running.id);
        }, [attach]);
        return drawing;
      },
      { wrapper: Provider },
    );
    await waitFor(() => {
      expect(result.current.status).toBe("succeeded");
    }, PATIENCE);
    expect(result.current.jobId).toBe(running.id);
    expect(result.current.job?.request.steps).toBe(20);
    expect(result.current.images).toHaveLength(1);
    expect(streams()).toBe(1);
  });

  it("fails in words when the job to take up is unknown", async () => {
    const { result } = renderGenerate();
    await act(() => result.current.attach("job_00000000000000000000000000"));
    expect(result.current.status).toBe("failed");
    expect(result.current.error?.code).toBe("not_found");
  });

  it("gives object URLs back on the next drawing, on reset and when the component goes", async () => {
    const { result, unmount } = renderGenerate();
    await act(() => result.current.generate({ ...APPLE, steps: 1 }));
    const [first] = result.current.images;
    expect(objectUrls).toContain(first?.src);
    await act(() => result.current.generate({ ...APPLE, steps: 1 }));
    expect(objectUrls).not.toContain(first?.src);
    expect(objectUrls.size).toBe(1);
    act(() => {
      result.current.reset();
    });
    expect(objectUrls.size).toBe(0);
    expect(result.current).toMatchObject({ status: "idle", images: [], jobId: null });
    await act(() => result.current.generate({ ...APPLE, steps: 1 }));
    unmount();
    await Promise.resolve();
    expect(objectUrls.size).toBe(0);
  });

  it("stops listening when the component goes, and the job goes on", async () => {
    const { result, unmount } = renderGenerate();
    void result.current.generate({ ...APPLE, steps: 20 });
    await waitFor(() => {
      expect(result.current.jobId).not.toBeNull();
    }, PATIENCE);
    const jobId = result.current.jobId ?? "";
    unmount();
    expect(await endOf(jobId)).toBe("succeeded");
    expect(requests.some(({ method }) => method === "DELETE")).toBe(false);
  });

  it("cancels when the component goes and was asked to", async () => {
    const { result, unmount } = renderGenerate({ cancelOnUnmount: true });
    void result.current.generate(LONG);
    await waitFor(() => {
      expect(result.current.progress).not.toBeNull();
    }, PATIENCE);
    const jobId = result.current.jobId ?? "";
    unmount();
    expect(await endOf(jobId)).toBe("cancelled");
  });
});

describe("useModels and useSchedulers", () => {
  it("are read once for all components", async () => {
    function Names() {
      const { data } = useModels();
      const schedulers = useSchedulers();
      return <p>{data && schedulers.data ? `${data.length} ${schedulers.data.length}` : "…"}</p>;
    }
    const { findAllByText } = render(
      <Provider>
        <Names />
        <Names />
      </Provider>,
    );
    expect(await findAllByText(/^\d+ \d+$/, {}, PATIENCE)).toHaveLength(2);
    expect(requests.map(({ path }) => path).sort()).toEqual(["/v1/models", "/v1/schedulers"]);
  });

  it("say why there is nothing, and read again when asked", async () => {
    let away = true;
    const client = Scumble.connect({ baseUrl, maxRetries: 0 });
    const { result } = renderHook(() => useModels(), {
      wrapper: ({ children }) => <ScumbleProvider client={client}>{children}</ScumbleProvider>,
    });
    const counted = globalThis.fetch;
    globalThis.fetch = (input, init) => (away ? Promise.reject(new TypeError("away")) : counted(input, init));
    await waitFor(() => {
      expect(result.current.error?.code).toBe("connection_failed");
    }, PATIENCE);
    away = false;
    act(() => {
      result.current.refetch();
    });
    await waitFor(() => {
      expect(result.current.data?.length).toBeGreaterThan(0);
    }, PATIENCE);
    expect(result.current.error).toBeUndefined();
  });
});

describe("useJob", () => {
  it("follows a job by its id to its end", async () => {
    const running = await (await Scumble.connect({ baseUrl })).generate(APPLE);
    const { result } = renderHook(() => useJob(running.id), { wrapper: Provider });
    expect(result.current.isLoading).toBe(true);
    await waitFor(() => {
      expect(result.current.job?.status).toBe("succeeded");
    }, PATIENCE);
    expect(result.current.isLoading).toBe(false);
    expect(streams()).toBeLessThanOrEqual(1);
  });

  it("does nothing without an id and begins when it comes", async () => {
    const { id } = await (await Scumble.connect({ baseUrl })).generate({ ...APPLE, steps: 1 });
    requests = [];
    const { result } = renderHook(
      () => {
        const [jobId, setJobId] = useState<string | null>(null);
        return { ...useJob(jobId), setJobId };
      },
      { wrapper: Provider },
    );
    expect(result.current.isLoading).toBe(false);
    expect(requests).toEqual([]);
    act(() => {
      result.current.setJobId(id);
    });
    await waitFor(() => {
      expect(result.current.job?.status).toBe("succeeded");
    }, PATIENCE);
  });
});

it("says what is missing when there is no provider", () => {
  const silenced = vi.spyOn(console, "error").mockImplementation(() => undefined);
  expect(() => renderHook(() => useGenerate())).toThrow("need a <ScumbleProvider> above them");
  silenced.mockRestore();
});
