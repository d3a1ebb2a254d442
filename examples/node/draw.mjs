// Draws from the command line, with a progress line, and writes the pictures beside you.
//   node draw.mjs "a red apple on a blue background" --steps 20 --n 2 --seed 7
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { Scumble, ScumbleError } from "@scumble/sdk";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string", default: process.env.SCUMBLE_URL ?? "http://127.0.0.1:8600" },
    steps: { type: "string" },
    n: { type: "string" },
    seed: { type: "string" },
  },
});

// Ctrl-C stops the drawing on the server too.
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());

try {
  const scumble = await Scumble.connect({ baseUrl: values.server });
  const job = await scumble.generate(
    {
      prompt: positionals.join(" ") || "a red apple on a blue background",
      steps: values.steps && Number(values.steps),
      n: values.n && Number(values.n),
      seed: values.seed,
    },
    { signal: stop.signal },
  );
  for await (const event of job) {
    if (event.event === "queued") console.error(`place ${event.position} in the queue`);
    if (event.event === "progress")
      console.error(`picture ${event.image + 1}: step ${event.step}/${event.total}`);
  }
  const { images, timings, warnings } = await job.result();
  for (const warning of warnings) console.error(`note: ${warning}`);
  for (const image of images) {
    const file = `scumble-${image.seed}.png`;
    await writeFile(file, new Uint8Array(await image.blob.arrayBuffer()));
    console.log(file);
  }
  console.error(`drawn in ${timings.total_ms} ms`);
} catch (error) {
  if (!(error instanceof ScumbleError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
