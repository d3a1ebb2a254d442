// Fails when the hooks outgrow their budget, React and the SDK not counted.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";

const BUDGET_GZIP_BYTES = 6_000;
const bundle = await build({
  entryPoints: [fileURLToPath(new URL("../dist/index.js", import.meta.url))],
  bundle: true,
  minify: true,
  format: "esm",
  external: ["react", "react/jsx-runtime", "@scumble/sdk"],
  write: false,
});
const code = Buffer.from(bundle.outputFiles[0].contents);
const gzip = gzipSync(code, { level: 9 }).length;
console.log(
  `@scumble/react: raw ${code.length} B, gzip ${gzip} B, brotli ${brotliCompressSync(code).length} B`,
);
if (gzip > BUDGET_GZIP_BYTES) {
  console.error(`@scumble/react is ${gzip} B gzipped; the budget is ${BUDGET_GZIP_BYTES} B`);
  process.exit(1);
}
