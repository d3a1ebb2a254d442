// A real worker for the tests, and a proxy that breaks the connection to it on demand.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Starts the worker that SCUMBLE_BIN names on a free port with an empty data folder. */
export async function startWorker() {
  const binary = process.env.SCUMBLE_BIN;
  if (!binary) throw new Error("set SCUMBLE_BIN to a built scumble binary; `cargo xtask test` does");
  const dataDir = mkdtempSync(join(tmpdir(), "scumble-sdk-"));
  const worker = spawn(binary, ["serve", "--port", "0", "--data-dir", dataDir, "--log", "error"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(worker, "exit");
  const address = await new Promise((resolve, reject) => {
    createInterface({ input: worker.stdout }).on("line", (line) => {
      const found = /http:\/\/[\d.:]+/.exec(line);
      if (found) resolve(found[0]);
    });
    exited.then(([code]) => reject(new Error(`the worker ended with ${code} before it listened`)), reject);
  });
  await ready(address);
  return {
    address,
    async stop() {
      worker.kill("SIGTERM");
      await exited;
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** The worker answers `/ready` with 503 while the model loads. */
async function ready(address) {
  for (;;) {
    const response = await fetch(`${address}/ready`);
    await response.arrayBuffer();
    if (response.ok) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/**
 * A proxy to the worker. `faults` decides about each request before it is passed on: `undefined` lets it through,
 * `{ status, headers, body }` answers in the worker's place, `{ cutAfterEvents }` breaks an event stream off.
 */
export async function startProxy(workerAddress) {
  const proxy = { seen: [], faults: () => undefined };
  const server = createServer((incoming, outgoing) => {
    const seen = { method: incoming.method, path: incoming.url, headers: incoming.headers };
    proxy.seen.push(seen);
    const fault = proxy.faults(seen) ?? {};
    if (fault.status) {
      incoming.resume();
      outgoing.writeHead(fault.status, fault.headers);
      outgoing.end(fault.body);
      return;
    }
    const target = new URL(incoming.url, workerAddress);
    const headers = { ...incoming.headers, host: target.host };
    const forwarded = httpRequest(target, { method: incoming.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      if (fault.cutAfterEvents === undefined) answer.pipe(outgoing);
      else cut(answer, outgoing, fault.cutAfterEvents);
    });
    forwarded.on("error", () => outgoing.destroy());
    outgoing.on("close", () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy.address = `http://127.0.0.1:${server.address().port}`;
  proxy.stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return proxy;
}

/** Passes on so many whole events and half of the next, and breaks the connection. */
function cut(answer, outgoing, events) {
  let text = "";
  answer.setEncoding("utf8");
  answer.on("data", (chunk) => {
    text += chunk;
    const blocks = text.split("\n\n");
    if (blocks.length <= events + 1) return;
    const kept = `${blocks.slice(0, events).join("\n\n")}\n\n${blocks[events].slice(0, 12)}`;
    answer.removeAllListeners();
    answer.destroy();
    outgoing.write(kept, () => outgoing.destroy());
  });
  answer.on("end", () => outgoing.end(text));
}
