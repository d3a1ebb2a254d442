// Runs in a folder that has only the packed tarballs installed, against a real worker: what a stranger's first script
// would do. The argument is the worker's address.

import assert from "node:assert/strict";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { Scumble } from "@scumble/sdk";
import { ScumbleProvider, useGenerate } from "@scumble/react";

const baseUrl = process.argv[2];
assert.ok(baseUrl, "usage: draw.mjs ADDRESS");

const scumble = await Scumble.connect({ baseUrl });
const job = await scumble.generate({ prompt: "a red apple on a blue background", seed: 7, steps: 4 });
const names = [];
for await (const event of job) names.push(event.event);
const { images } = await job.result();

assert.equal(names.filter((name) => name === "progress").length, 4, `events were ${names.join(", ")}`);
assert.equal(names.at(-1), "complete");
assert.equal(images.length, 1);
const bytes = new Uint8Array(await images[0].blob.arrayBuffer());
assert.deepEqual([...bytes.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47], "the image is a PNG");

function Status() {
  return createElement("p", null, useGenerate().status);
}
const page = renderToString(createElement(ScumbleProvider, { baseUrl }, createElement(Status)));
assert.equal(page, "<p>idle</p>");

console.log(`drew ${bytes.length} bytes with the packed packages; rendered ${page} on the server`);
