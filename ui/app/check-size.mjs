// Fails the build when the studio's script outgrows its budget: it is the first thing a phone has to fetch and parse.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const scriptGzipBytesMax = 200_000;
const folder = new URL("dist/assets/", import.meta.url);
const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));
const bytes = scripts.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder))).length, 0);

console.log(`studio script: ${bytes} bytes gzipped of ${scriptGzipBytesMax}`);
if (scripts.length === 0 || bytes > scriptGzipBytesMax) {
  console.error("the studio's script is missing or over its budget");
  process.exit(1);
}
