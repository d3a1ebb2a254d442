import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "jsdom",
    // Linked from beside this workspace; run by Node as it would be from node_modules, not transformed for a page.
    server: { deps: { external: [/sdk-wasm/] } },
    globalSetup: "tests/worker.ts",
    include: ["tests/**/*.test.{ts,tsx}"],
    typecheck: { include: ["tests/**/*.test-d.ts"], tsconfig: "./tsconfig.json" },
    // A picture is drawn for real; a debug build of the worker on a busy machine takes its time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
