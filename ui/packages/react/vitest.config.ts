import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "jsdom",
    globalSetup: "tests/worker.ts",
    include: ["tests/**/*.test.{ts,tsx}"],
    typecheck: { include: ["tests/**/*.test-d.ts"], tsconfig: "./tsconfig.json" },
    // A picture is drawn for real; a debug build of the worker on a busy machine takes its time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
