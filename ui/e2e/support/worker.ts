import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const binary =
  process.env.SCUMBLE_BIN ?? fileURLToPath(new URL("../../../target/debug/scumble", import.meta.url));
const startWithinMs = 60_000;
const askEveryMs = 50;

/**
 * A worker process with a data folder of its own; it can be stopped and started again on the same port. Its model is
 * the embedded one, or the folder that `SCUMBLE_MODEL` names.
 */
export class WorkerProcess {
  #child: ChildProcess | undefined;
  #output = "";
  /** 0 until the first start has found a free one. */
  #port = 0;

  private constructor(readonly dataDir: string) {}

  static async start(): Promise<WorkerProcess> {
    const worker = new WorkerProcess(await mkdtemp(join(tmpdir(), "scumble-e2e-")));
    await worker.start();
    return worker;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const child = spawn(binary, ["serve", "--port", String(this.#port), "--data-dir", this.dataDir], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.#output = "";
    const failed = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => {
        reject(new Error(`the worker ended with ${code}:\n${this.#output}`));
      });
    });
    // An exit after the start is a stop that a test asked for.
    failed.catch(() => undefined);
    const listening = new Promise<number>((resolve) => {
      const read = (chunk: Buffer): void => {
        this.#output += chunk.toString();
        const [, port] = /Scumble is at http:\/\/127\.0\.0\.1:(\d+)/.exec(this.#output) ?? [];
        if (port !== undefined) resolve(Number(port));
      };
      child.stdout.on("data", read);
      child.stderr.on("data", read);
    });
    this.#port = await Promise.race([listening, failed]);
    await Promise.race([this.#ready(), failed]);
  }

  /** SIGTERM lets it finish what it holds; SIGKILL is a crash. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async dispose(): Promise<void> {
    await this.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + startWithinMs;
    while (Date.now() < deadline) {
      const response = await fetch(`${this.url}/ready`).catch(() => undefined);
      if (response?.ok === true) return;
      await new Promise((resolve) => setTimeout(resolve, askEveryMs));
    }
    throw new Error(`the worker was not ready within ${startWithinMs} ms:\n${this.#output}`);
  }
}
