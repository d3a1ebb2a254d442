import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const binary = process.env.SCUMBLE_BIN ?? fileURLToPath(new URL("../../../target/debug/scumble", import.meta.url));
/** A model folder to draw with instead of the embedded one. */
const model = process.env.SCUMBLE_MODEL;
const startWithinMs = 60_000;
const askEveryMs = 50;

/** A worker process with a data folder of its own; it can be stopped and started again on the same port. */
export class WorkerProcess {
  #child: ChildProcess | undefined;
  #output = "";

  private constructor(
    readonly port: number,
    readonly dataDir: string,
  ) {}

  static async start(): Promise<WorkerProcess> {
    const worker = new WorkerProcess(await freePort(), await mkdtemp(join(tmpdir(), "scumble-e2e-")));
    await worker.start();
    return worker;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const options = ["serve", "--port", String(this.port), "--data-dir", this.dataDir];
    if (model !== undefined) options.push("--model", model);
    const child = spawn(binary, options, { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#output = "";
    child.stdout.on("data", (chunk: Buffer) => (this.#output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (this.#output += chunk.toString()));
    const failed = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the worker ended with ${code}:\n${this.#output}`)));
    });
    // Not awaited to the end: an exit after the start is a stop that a test asked for.
    failed.catch(() => undefined);
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

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (address === null || typeof address === "string") return reject(new Error("no port"));
      server.close(() => resolve(address.port));
    });
  });
}
