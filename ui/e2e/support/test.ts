import { expect, test as base } from "@playwright/test";
import { Studio } from "./studio";
import { WorkerProcess } from "./worker";

interface Fixtures {
  studio: Studio;
  /** Names console errors that a test causes on purpose: Chromium reports every refused request there. */
  expectConsole: (message: RegExp) => void;
}

export const test = base.extend<Fixtures, { worker: WorkerProcess }>({
  worker: [
    async ({}, use) => {
      const worker = await WorkerProcess.start();
      await use(worker);
      await worker.dispose();
    },
    { scope: "worker" },
  ],
  baseURL: async ({ worker }, use) => use(worker.url),
  expectConsole: async ({ page }, use) => {
    const expected: RegExp[] = [];
    const errors: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") errors.push(message.text());
    });
    page.on("pageerror", (error) => errors.push(String(error)));
    await use((message) => expected.push(message));
    const unexpected = errors.filter((error) => !expected.some((pattern) => pattern.test(error)));
    expect(unexpected, "the console stays empty").toEqual([]);
  },
  studio: async ({ page, expectConsole }, use) => {
    // Named here so that every test that opens the studio also watches its console.
    void expectConsole;
    await use(new Studio(page));
  },
});

export { expect };
