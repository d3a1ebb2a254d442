// Compiles the TypeScript face to dist/ and puts the wasm bindings beside it.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const bindings = new URL("js/src/wasm/", root);
if (!existsSync(new URL("scumble_sdk_bg.wasm", bindings))) {
  console.error(
    "The wasm bindings are missing: run `cargo xtask build-sdk`, which makes them and calls this script.",
  );
  process.exit(1);
}
rmSync(new URL("dist/", root), { recursive: true, force: true });
const compiler = fileURLToPath(new URL("node_modules/typescript/bin/tsc", root));
const compiled = spawnSync(
  process.execPath,
  [compiler, "-p", fileURLToPath(new URL("tsconfig.json", root))],
  {
    stdio: "inherit",
  },
);
if (compiled.status !== 0) process.exit(compiled.status ?? 1);
for (const file of ["scumble_sdk.js", "scumble_sdk.d.ts", "scumble_sdk_bg.wasm"]) {
  cpSync(new URL(file, bindings), new URL(`dist/wasm/${file}`, root));
}
