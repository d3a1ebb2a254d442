// Serves this folder: module scripts and wasm do not load from file:// pages.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const types = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

createServer((request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  const file = join(import.meta.dirname, path === "/" ? "index.html" : path);
  if (!existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end("not found");
  response.setHeader("Content-Type", types[extname(file)] ?? "application/octet-stream");
  createReadStream(file).pipe(response);
}).listen(Number(process.env.PORT ?? 5173), "127.0.0.1", function () {
  console.log(`http://127.0.0.1:${this.address().port}`);
});
