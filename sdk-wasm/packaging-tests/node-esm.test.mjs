// The packed tarball, installed and run in Node as an ES module, against a real worker.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { installPacked } from "./install.mjs";
import { startProxy, startWorker } from "./worker.mjs";

const APPLE = { prompt: "a red apple on a blue background", steps: 6, seed: 7 };
/** Long enough that a cancel always comes in time. */
const LONG = { ...APPLE, steps: 150, n: 8 };

let installed, worker, proxy, sdk, scumble;

before(async () => {
  installed = installPacked();
  const consumer = join(installed.project, "consumer.mjs");
  writeFileSync(consumer, 'export * from "@scumble/sdk";\n');
  sdk = await import(pathToFileURL(consumer).href);
  worker = await startWorker();
  proxy = await startProxy(worker.address);
  scumble = await sdk.Scumble.connect({ baseUrl: `${proxy.address}/` });
});

after(async () => {
  proxy?.stop();
  await worker?.stop();
  installed?.remove();
});

beforeEach(() => {
  proxy.seen = [];
  proxy.faults = () => undefined;
});

/** Runs `script` in a Node of its own, inside the project. */
function run(script) {
  const file = join(installed.project, "script.mjs");
  writeFileSync(file, script);
  return execFileSync(process.execPath, [file], { cwd: installed.project, encoding: "utf8" });
}

function streams() {
  return proxy.seen.filter(({ path }) => path.includes("/stream"));
}

describe("the package", () => {
  it("holds the compiled client and nothing of its making", () => {
    assert.ok(installed.files.includes("dist/wasm/scumble_sdk_bg.wasm"));
    assert.ok(installed.files.includes("dist/index.d.ts"));
    const others = installed.files.filter((path) => !path.startsWith("dist/"));
    assert.deepEqual(others.sort(), ["README.md", "package.json"]);
    assert.deepEqual(
      installed.files.filter((path) => /(?<!\.d)\.ts$|test/.test(path)),
      [],
    );
  });

  it("does nothing when it is imported, so that a server can render with it", () => {
    const output = run(`
      for (const name of ["fetch", "WebAssembly", "document", "window", "crypto"]) {
        Object.defineProperty(globalThis, name, { get() { throw new Error(name + " was touched"); }, configurable: true });
      }
      const { Scumble } = await import("@scumble/sdk");
      console.log(typeof Scumble.connect);
    `);
    assert.equal(output.trim(), "function");
  });

  it("rejects every call under way, and later ones, with one clear sentence when the wasm module panics", () => {
    const output = run(`
      const { Scumble } = await import("@scumble/sdk");
      const inside = new URL("node_modules/@scumble/sdk/dist/", import.meta.url);
      const { call } = await import(new URL("runtime.js", inside));
      const { panicForTest } = await import(new URL("wasm/scumble_sdk.js", inside));
      const scumble = await Scumble.connect({ baseUrl: ${JSON.stringify(worker.address)} });
      process.on("uncaughtException", () => {});
      for (const work of [() => call(undefined, () => panicForTest()), () => scumble.models()]) {
        const error = await work().then(() => undefined, (thrown) => thrown);
        console.log(error.name, error.code, error.message.includes("(asked to)"));
      }
    `);
    assert.equal(output, "ScumbleError internal_error true\n".repeat(2));
  });
});

describe("a drawing", () => {
  it("tells every step once and in order, ends complete, and gives the picture that was asked for", async () => {
    const job = await scumble.generate({ ...APPLE, preview: { every: 2, format: "png" } });
    const events = [];
    for await (const event of job) events.push(event);
    const names = events.map(({ event }) => event);
    assert.equal(names[0], "queued");
    assert.ok(names.includes("started") && names.includes("preview"), names.join());
    assert.deepEqual(names.slice(-2), ["image", "complete"]);
    assert.deepEqual(
      events.filter(({ event }) => event === "progress").map(({ step }) => step),
      [1, 2, 3, 4, 5, 6],
    );
    const seqs = events.map(({ seq }) => seq);
    assert.deepEqual(
      seqs,
      [...new Set(seqs)].sort((a, b) => a - b),
    );

    const { images, job: ended, timings, warnings } = await job.result();
    assert.equal(images.length, 1);
    const [image] = images;
    const bytes = Buffer.from(await image.blob.arrayBuffer());
    assert.equal(bytes.subarray(1, 4).toString(), "PNG");
    assert.equal(bytes.readUInt32BE(16), image.width);
    assert.equal(bytes.readUInt32BE(20), image.height);
    assert.equal(image.blob.type, "image/png");
    assert.equal(image.seed, 7);
    assert.equal(ended.status, "succeeded");
    assert.equal(ended.request.prompt, APPLE.prompt);
    assert.ok(timings.total_ms > 0);
    assert.ok(Array.isArray(warnings));
    const url = image.url();
    assert.equal(image.url(), url);
    assert.equal((await (await fetch(url)).arrayBuffer()).byteLength, bytes.length);
    image.revoke();
    await assert.rejects(fetch(url));
  });

  it("shows the job as accepted, with every default and the drawn seed", async () => {
    const job = await scumble.generate({ prompt: APPLE.prompt, steps: 1 });
    assert.equal(job.accepted.request.steps, 1);
    assert.ok(job.accepted.request.width > 0);
    assert.ok(["number", "string"].includes(typeof job.accepted.request.seed));
    await job.result();
  });

  it("opens one stream for two readers and the result, and both readers see everything", async () => {
    const job = await scumble.generate(APPLE);
    const read = async () => {
      const seqs = [];
      for await (const { seq } of job) seqs.push(seq);
      return seqs;
    };
    const [first, second] = await Promise.all([read(), read(), job.result()]);
    assert.ok(first.length >= 9);
    assert.deepEqual(first, second);
    assert.deepEqual(await read(), first);
    assert.equal(streams().length, 1);
  });

  it("loses and repeats nothing when the connection breaks again and again", async () => {
    proxy.faults = ({ path }) => (path.includes("/stream") ? { cutAfterEvents: 3 } : undefined);
    const job = await scumble.generate(APPLE);
    const seqs = [];
    for await (const { seq } of job) seqs.push(seq);
    assert.deepEqual(
      seqs,
      seqs.map((_, index) => seqs[0] + index),
      "no preview was asked for, so there is no gap",
    );
    assert.ok(streams().length >= 3, `${streams().length} connections`);
    assert.equal(streams()[0].headers["last-event-id"], undefined);
    for (const { headers } of streams().slice(1)) assert.match(headers["last-event-id"], /^\d+$/);
    assert.equal((await job.result()).images.length, 1);
  });

  it("fetches the pictures by their address where they did not come with the events", async () => {
    const job = await scumble.generate({ ...APPLE, n: 2, response_format: "url", output_format: "webp" });
    const { images } = await job.result();
    assert.deepEqual(
      images.map(({ index, seed, mimeType }) => [index, seed, mimeType]),
      [
        [0, 7, "image/webp"],
        [1, 8, "image/webp"],
      ],
    );
    assert.equal(
      Buffer.from(await images[1].blob.arrayBuffer())
        .subarray(8, 12)
        .toString(),
      "WEBP",
    );
  });

  it("takes a seed that a number cannot hold", async () => {
    const job = await scumble.generate({ ...APPLE, steps: 1, seed: 18446744073709551615n });
    assert.equal((await job.result()).images[0].seed, "18446744073709551615");
  });
});

describe("a job by its id", () => {
  it("can be taken up after a reload, from any event on", async () => {
    const { id } = await scumble.generate(APPLE);
    await scumble.job(id).result();
    const all = [];
    for await (const { seq } of scumble.job(id)) all.push(seq);
    const middle = all[Math.floor(all.length / 2)];
    const rest = [];
    for await (const { seq } of scumble.job(id, { after: middle })) rest.push(seq);
    assert.deepEqual(
      rest,
      all.filter((seq) => seq > middle),
    );
    const late = scumble.job(id, { after: all.at(-1) });
    for await (const event of late) assert.fail(`an event after the last one: ${event.event}`);
    assert.equal((await late.result()).images.length, 1);
  });

  it("is refused in words when there is no such job or the id is none", async () => {
    const unknown = scumble.job("job_00000000000000000000000000");
    await assert.rejects(unknown.result(), { name: "ScumbleError", code: "not_found", status: 404 });
    await assert.rejects(scumble.job("../models").get(), { code: "not_found" });
    await assert.rejects(scumble.job("../models").result(), { code: "invalid_value", param: "job_id" });
  });
});

describe("cancelling", () => {
  it("stops the drawing, rejects the result, and does no harm when repeated", async () => {
    const job = await scumble.generate(LONG);
    const result = assert.rejects(job.result(), { name: "JobCancelledError", code: "job_cancelled" });
    const names = new Set();
    for await (const { event } of job) {
      names.add(event);
      if (event === "progress" && !names.has("cancelling")) {
        names.add("cancelling");
        await job.cancel();
      }
    }
    assert.ok(names.has("cancelled"));
    await result;
    await job.cancel();
    assert.equal((await job.get()).status, "cancelled");
  });

  it("happens on the worker when the signal of an accepted job fires", async () => {
    const controller = new AbortController();
    const job = await scumble.generate(LONG, { signal: controller.signal });
    for await (const { event } of job) {
      if (event === "progress") controller.abort();
      if (event === "complete") assert.fail("it was drawn to the end");
    }
    assert.equal((await job.get()).status, "cancelled");
  });

  it("reaches a job that was accepted after its signal had fired", async () => {
    const controller = new AbortController();
    const cancelled = new Promise((resolve) => {
      proxy.faults = ({ method, path }) => {
        if (method === "POST") controller.abort(new Error("changed my mind"));
        if (method === "DELETE") resolve(path.split("/").at(-1));
        return undefined;
      };
    });
    const error = await scumble.generate(LONG, { signal: controller.signal }).catch((thrown) => thrown);
    assert.equal(error.name, "AbortError");
    assert.equal(error.code, "aborted");
    assert.equal(error.cause.message, "changed my mind");
    for await (const { event } of scumble.job(await cancelled)) {
      if (event === "complete") assert.fail("it was drawn to the end");
    }
  });

  it("is not what ends when only a reader leaves", async () => {
    const job = await scumble.generate(APPLE);
    const controller = new AbortController();
    controller.abort();
    await assert.rejects(job.result({ signal: controller.signal }), { name: "AbortError" });
    for await (const event of job) if (event) break;
    assert.equal((await job.result()).images.length, 1);
  });
});

describe("failures", () => {
  it("name the field at fault", async () => {
    const refusals = [
      [{ ...APPLE, steps: 0 }, "invalid_value", "steps"],
      [{ ...APPLE, guidance_scale: Number.NaN }, "invalid_value", "guidance_scale"],
      [{ ...APPLE, width: 513 }, "invalid_value", "width"],
      [{ prompt: "" }, "invalid_value", "prompt"],
      [{ ...APPLE, cfg: 7 }, "unknown_field", "cfg"],
      [{ ...APPLE, model: "none" }, "model_not_found", "model"],
    ];
    for (const [request, code, param] of refusals) {
      const error = await scumble.generate(request).catch((thrown) => thrown);
      assert.ok(error instanceof sdk.ScumbleError, JSON.stringify(request));
      assert.deepEqual([error.code, error.param, error.status], [code, param, 400], error.message);
      assert.ok(error.requestId);
    }
    assert.equal(proxy.seen.length, refusals.length, "a request at fault is not sent twice");
  });

  it("of a busy worker are retried under one idempotency key, and nothing is drawn twice", async () => {
    let attempts = 0;
    proxy.faults = ({ method }) => {
      attempts += method === "POST" ? 1 : 0;
      return method === "POST" && attempts < 3
        ? { status: 503, headers: { "retry-after": "0" }, body: "" }
        : undefined;
    };
    await (await scumble.generate({ ...APPLE, steps: 1 })).result();
    const keys = proxy.seen
      .filter(({ method }) => method === "POST")
      .map(({ headers }) => headers["idempotency-key"]);
    assert.equal(keys.length, 3);
    assert.match(keys[0], /^[0-9a-f]{32}$/);
    assert.equal(new Set(keys).size, 1);
  });

  it("of the connection are a ConnectionError once the retries are used up", async () => {
    const nobody = await sdk.Scumble.connect({ baseUrl: "http://127.0.0.1:9", maxRetries: 0 });
    const error = await nobody.models().catch((thrown) => thrown);
    assert.ok(error instanceof sdk.ConnectionError);
    assert.equal(error.code, "connection_failed");
    assert.match(error.message, /^the worker cannot be reached: /);
  });

  it("of a proxy and of a server that is not Scumble are told apart, and a wait is passed on", async () => {
    const once = await sdk.Scumble.connect({ baseUrl: proxy.address, maxRetries: 0 });
    proxy.faults = () => ({
      status: 429,
      headers: { "retry-after": "7", "x-request-id": "r9" },
      body: "<html>",
    });
    await assert.rejects(once.models(), { code: "queue_full", retryAfterMs: 7000, requestId: "r9" });
    proxy.faults = () => ({ status: 200, headers: {}, body: "<html>" });
    await assert.rejects(once.models(), { name: "ConnectionError", code: "invalid_response" });
  });

  it("of options are told before anything is sent", async () => {
    const refused = { name: "ScumbleError", code: "invalid_value" };
    await assert.rejects(sdk.Scumble.connect({ baseUrl: "ftp://x" }), { ...refused, param: "baseUrl" });
    await assert.rejects(sdk.Scumble.connect({ maxRetries: -1 }), { ...refused, param: "maxRetries" });
    await assert.rejects(sdk.Scumble.connect({ headers: { "a b": "c" } }), { ...refused, param: "headers" });
  });
});

describe("what the worker offers", () => {
  it("is listed, the default model first", async () => {
    const [model] = await scumble.models();
    assert.ok(model.limits.width.multiple > 0);
    const names = (await scumble.schedulers()).map(({ name }) => name);
    assert.ok(names.includes(model.defaults.scheduler), names.join());
  });

  it("is asked for with the key and the headers of the options", async () => {
    const keyed = await sdk.Scumble.connect({
      baseUrl: proxy.address,
      apiKey: "k1",
      headers: { "x-tenant": "t" },
    });
    await keyed.models();
    assert.equal(proxy.seen[0].headers.authorization, "Bearer k1");
    assert.equal(proxy.seen[0].headers["x-tenant"], "t");
  });
});
