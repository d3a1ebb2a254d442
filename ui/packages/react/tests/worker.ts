// A real worker for the tests, started once and given to them by its address.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  export interface ProvidedContext {
    workerAddress: string;
  }
}

export default async function startWorker({ provide }: TestProject): Promise<() => Promise<void>> {
  const binary = process.env["SCUMBLE_BIN"];
  if (!binary) throw new Error("set SCUMBLE_BIN to a built scumble binary; `cargo xtask test` does");
  const dataDir = mkdtempSync(join(tmpdir(), "scumble-react-"));
  const worker = spawn(binary, ["serve", "--port", "0", "--data-dir", dataDir, "--log", "error"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(worker, "exit");
  const address = await new Promise<string>((resolve, reject) => {
    createInterface({ input: worker.stdout }).on("line", (line) => {
      const found = /http:\/\/[\d.:]+/.exec(line);
      if (found) resolve(found[0]);
    });
    exited.then(() => {
      reject(new Error("the worker ended before it listened"));
    }, reject);
  });
  await ready(address);
  provide("workerAddress", address);
  return async () => {
    worker.kill("SIGTERM");
    await exited;
    rmSync(dataDir, { recursive: true, force: true });
  };
}

/** The worker answers `/ready` with 503 while the model loads. */
async function ready(address: string): Promise<void> {
  for (;;) {
    const response = await fetch(`${address}/ready`);
    await response.arrayBuffer();
    if (response.ok) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
