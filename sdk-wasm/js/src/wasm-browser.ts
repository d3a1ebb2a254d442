/** The compiled module's address. Bundlers see the pattern and copy the file beside the script. */
export function wasmSource(): Promise<URL> {
  return Promise.resolve(new URL("./wasm/scumble_sdk_bg.wasm", import.meta.url));
}
