import { defineConfig, type Plugin } from "vite";
import react from "@vitejs/plugin-react";

/** What the page may load: itself, the SDK's wasm, and pictures that it made. */
const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** Only in the build: the development server injects scripts of its own that the policy would refuse. */
function contentSecurityPolicy(): Plugin {
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "Content-Security-Policy", content: policy },
        injectTo: "head-prepend",
      },
    ],
  };
}

const worker = process.env.SCUMBLE_WORKER ?? "http://127.0.0.1:8600";

export default defineConfig({
  plugins: [react(), contentSecurityPolicy()],
  build: { target: "es2023", modulePreload: { polyfill: false } },
  server: { host: "127.0.0.1", proxy: { "/v1": worker, "/health": worker } },
});
