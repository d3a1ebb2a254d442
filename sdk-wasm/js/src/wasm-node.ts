import { readFile } from "node:fs/promises";

/** The compiled module's bytes: Node's `fetch` does not read files. */
export function wasmSource(): Promise<Uint8Array<ArrayBuffer>> {
  return readFile(new URL("./wasm/scumble_sdk_bg.wasm", import.meta.url));
}
