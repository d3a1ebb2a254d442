import { expect, test as base } from "@playwright/test";
import { Studio } from "./studio";
import { WorkerProcess } from "./worker";

interface TestFixtures {
  studio: Studio;
  /** Names console errors that a test causes on purpose: Chromium reports every refused request there. */
  expectConsole: (message: RegExp) => void;
}

interface WorkerFixtures {
  /** The worker that the tests share; those that stop theirs start their own. */
  worker: WorkerProcess;
}

export const test = base.extend<TestFixtures, WorkerFixtures>({
  worker: [
    // eslint-disable-next-line no-empty-pattern -- Playwright reads what a fixture needs off this pattern.
    async ({}, provide) => {
      const worker = await WorkerProcess.start();
      await provide(worker);
      await worker.dispose();
    },
    { scope: "worker" },
  ],
  baseURL: async ({ worker }, provide) => {
    await provide(worker.url);
  },
  expectConsole: [
    async ({ page }, provide) => {
      const expected: RegExp[] = [];
      const errors: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") errors.push(message.text());
      });
      page.on("pageerror", (error) => errors.push(String(error)));
      await provide((message) => expected.push(message));
      const unexpected = errors.filter((error) => !expected.some((pattern) => pattern.test(error)));
      expect(unexpected, "the console stays empty").toEqual([]);
    },
    { auto: true },
  ],
  studio: async ({ page }, provide) => {
    await provide(new Studio(page));
  },
});

export { expect };
