import { defineConfig } from "@playwright/test";

/**
 * The studio in a real Chromium against a real worker. Nothing is mocked and nothing is downloaded: the browser is the
 * system's (`CHROMIUM_PATH`), the worker is the one that was built (`SCUMBLE_BIN`).
 */
export default defineConfig({
  testDir: "tests",
  // One worker process draws for all tests, one job at a time.
  workers: 1,
  timeout: 120_000,
  expect: { timeout: 60_000 },
  forbidOnly: process.env.CI !== undefined,
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 860 },
    launchOptions: {
      executablePath: process.env.CHROMIUM_PATH ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
    trace: "off",
  },
});
