import { wasmSource } from "#wasm";
import { AbortError, internalError, invalidResponse, typedError } from "./errors.js";
import init, { type Client, Stop, onPanic } from "./wasm/scumble_sdk.js";

let loading: Promise<void> | undefined;
let panic: Error | undefined;
/** Rejecters of the calls under way: a panic leaves their promises pending for ever. */
const underWay = new Set<(error: Error) => void>();

/** Loads the wasm module, once however often it is called. A failed load is tried again by the next call. */
export function load(): Promise<void> {
  loading ??= start().catch((error: unknown) => {
    loading = undefined;
    throw internalError(`the client's wasm module cannot be loaded: ${String(error)}`);
  });
  return loading;
}

async function start(): Promise<void> {
  await init({ module_or_path: await wasmSource() });
  onPanic((message: string) => {
    panic = internalError(
      `the client's wasm module broke (${message}); load the page or start the process again, and please report this`,
    );
    for (const reject of underWay) reject(panic);
    underWay.clear();
  });
}

/** Runs one call into the wasm module: hands it the caller's wish to stop, and types what it throws. */
export async function call<T>(signal: AbortSignal | undefined, work: (stop: Stop) => Promise<T>): Promise<T> {
  if (panic) throw panic;
  if (signal?.aborted) throw new AbortError(signal.reason);
  const stop = new Stop();
  const onAbort = () => {
    stop.stop();
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  let reject: ((error: Error) => void) | undefined;
  try {
    const panicked = new Promise<never>((_, rejectPanicked) => {
      reject = rejectPanicked;
      underWay.add(rejectPanicked);
    });
    return await Promise.race([work(stop), panicked]);
  } catch (thrown) {
    throw typedError(thrown, signal);
  } finally {
    if (reject) underWay.delete(reject);
    signal?.removeEventListener("abort", onAbort);
    release(stop);
  }
}

/** Gives an object of the wasm module back at once. After a panic it may still be in use there, and is left alone. */
export function release(object: { free(): void }): void {
  if (!panic) object.free();
}

/** JSON that the server sent. */
export function parseJson(text: string | Uint8Array): unknown {
  try {
    return JSON.parse(typeof text === "string" ? text : new TextDecoder().decode(text));
  } catch {
    throw invalidResponse("it is not JSON");
  }
}

/** Reads a document or an image. */
export function read(
  client: Client,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  return call(signal, (stop) => client.read(path, stop) as Promise<Uint8Array<ArrayBuffer>>);
}
