// Fails when what a page downloads for the client outgrows its budget: wasm, glue and TypeScript face together.
import { build } from "esbuild";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";

const BUDGET_GZIP_BYTES = 45_000;
const dist = new URL("../dist/", import.meta.url);
const bundle = await build({
  entryPoints: [fileURLToPath(new URL("index.js", dist))],
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  conditions: ["browser"],
  write: false,
});
const parts = [
  ["script (glue and face, minified)", Buffer.from(bundle.outputFiles[0].contents)],
  ["wasm", readFileSync(new URL("wasm/scumble_sdk_bg.wasm", dist))],
];
const sizes = parts.map(([name, bytes]) => [
  name,
  bytes.length,
  gzipSync(bytes, { level: 9 }).length,
  brotliCompressSync(bytes).length,
]);
const total = ["together", ...[1, 2, 3].map((column) => sizes.reduce((sum, row) => sum + row[column], 0))];
for (const [name, raw, gzip, brotli] of [...sizes, total]) {
  console.log(`${name.padEnd(34)} raw ${raw} B, gzip ${gzip} B, brotli ${brotli} B`);
}
if (total[2] > BUDGET_GZIP_BYTES) {
  console.error(`@scumble/sdk is ${total[2]} B gzipped; the budget is ${BUDGET_GZIP_BYTES} B`);
  process.exit(1);
}
