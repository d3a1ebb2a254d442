// Runs every example as a stranger would: the packed packages, a real worker, a real browser.
//   SCUMBLE_BIN=../target/debug/scumble node run.mjs [name …]
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const binary = process.env.SCUMBLE_BIN ?? join(here, "../target/debug/scumble");
const { chromium } = createRequire(join(here, "../ui/e2e/package.json"))("@playwright/test");
const work = await mkdtemp(join(tmpdir(), "scumble-examples-"));
const running = new Set();

const examples = { curl: runCurl, node: runNode, vanilla: runVanilla, react: runReact };
const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(examples);
let failed = 0;
try {
  const packages = names.some((name) => name !== "curl") ? await packAll() : {};
  const worker = start(binary, ["serve", "--port", "0", "--data-dir", join(work, "data")], {});
  const server = await worker.says(/http:\/\/127\.0\.0\.1:\d+/);
  await ready(server);
  for (const name of names) {
    const folder = join(work, name);
    await cp(join(here, name), folder, { recursive: true, filter: (path) => !path.includes("node_modules") });
    try {
      await examples[name]({ folder, server, packages });
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.error(`not ok ${name}\n${error.stack}`);
    }
  }
} finally {
  for (const child of running) child.kill();
  await rm(work, { recursive: true, force: true });
}
console.log(`${names.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function runCurl({ folder, server }) {
  const output = await finish("./draw.sh", ["a fox on a blue background", "fox.png"], folder, {
    SCUMBLE_URL: server,
  });
  await assertPng(join(folder, "fox.png"));
  for (const part of ["event: started", "event: progress", "event: complete", "data: [DONE]"]) {
    if (!output.includes(part)) throw new Error(`the stream says no "${part}":\n${output}`);
  }
}

async function runNode({ folder, server, packages }) {
  await install(folder, [packages.sdk]);
  const options = ["draw.mjs", "a fox on a blue background", "--steps", "10", "--n", "2", "--seed", "7"];
  await finish("node", options, folder, { SCUMBLE_URL: server });
  for (const seed of [7, 8]) await assertPng(join(folder, `scumble-${seed}.png`));
}

async function runVanilla({ folder, server, packages }) {
  await install(folder, [packages.sdk]);
  const page = start("npm", ["start"], { cwd: folder, env: { PORT: "0" } });
  const address = await page.says(/http:\/\/127\.0\.0\.1:\d+/);
  await drawInBrowser(`${address}/?worker=${server}`);
  page.stop();
}

async function runReact({ folder, server, packages }) {
  await install(folder, [packages.sdk, packages.react]);
  await finish("npm", ["run", "build"], folder);
  const page = start("npx", ["vite", "preview", "--host", "127.0.0.1", "--port", "0"], {
    cwd: folder,
    env: { SCUMBLE_URL: server },
  });
  const address = await page.says(/http:\/\/127\.0\.0\.1:\d+/);
  await drawInBrowser(address);
  page.stop();
}

async function drawInBrowser(address) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_PATH ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(address);
    await page.getByRole("button", { name: "Draw" }).click();
    await page.getByText(/^Drawn in \d+ ms/).waitFor();
    const width = await page
      .locator("img")
      .first()
      .evaluate((image) => image.naturalWidth);
    if (width === 0) throw new Error("there is no picture on the page");
    if (errors.length > 0) throw new Error(`the console says: ${errors.join("; ")}`);
  } finally {
    await browser.close();
  }
}

async function packAll() {
  const pack = async (folder) => {
    const target = join(work, "packed");
    await mkdir(target, { recursive: true });
    const before = new Set(await readdir(target));
    await finish("npm", ["pack", "--silent", "--pack-destination", target], join(here, folder));
    return join(
      target,
      (await readdir(target)).find((file) => !before.has(file)),
    );
  };
  return { sdk: await pack("../sdk-wasm"), react: await pack("../ui/packages/react") };
}

/** Puts the packed files where the example's package.json names folders of this repository. */
async function install(folder, tarballs) {
  const file = join(folder, "package.json");
  const manifest = JSON.parse(await readFile(file, "utf8"));
  for (const name of Object.keys(manifest.dependencies)) {
    if (!name.startsWith("@scumble/")) continue;
    const tarball = tarballs.find((path) => path.includes(name.slice(1).replace("/", "-")));
    manifest.dependencies[name] = `file:${tarball}`;
  }
  await writeFile(file, JSON.stringify(manifest));
  await finish("npm", ["install", "--no-audit", "--no-fund", "--loglevel", "error"], folder);
}

async function assertPng(file) {
  const bytes = await readFile(file);
  if (bytes.subarray(1, 4).toString() !== "PNG") throw new Error(`${file} is no PNG`);
}

/** The worker listens before its model is loaded. */
async function ready(server) {
  for (let tries = 0; tries < 600; tries += 1) {
    if ((await fetch(`${server}/ready`)).ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the worker did not become ready");
}

/** A process that goes on, and what it says first. */
function start(command, options, { cwd, env }) {
  const child = spawn(command, options, { cwd, env: { ...process.env, ...env }, detached: true });
  const stop = () => process.kill(-child.pid);
  const entry = { kill: () => child.exitCode === null && child.signalCode === null && stop() };
  running.add(entry);
  child.once("exit", () => running.delete(entry));
  const says = (pattern) =>
    new Promise((resolve, reject) => {
      let output = "";
      const read = (chunk) => {
        // Vite colours its addresses.
        output += chunk.toString().replace(/\u001b\[\d+m/g, "");
        const [found] = pattern.exec(output) ?? [];
        if (found !== undefined) resolve(found);
      };
      child.stdout.on("data", read);
      child.stderr.on("data", read);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`${command} ended with ${code}:\n${output}`)));
    });
  return { says, stop };
}

/** A process that ends; its output. */
function finish(command, options, cwd, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, options, { cwd, env: { ...process.env, ...env } });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.once("error", reject);
    child.once("exit", (code) =>
      code === 0 ? resolve(output) : reject(new Error(`${command} ended with ${code}:\n${output}`)),
    );
  });
}
