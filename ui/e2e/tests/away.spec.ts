import { job } from "../support/api";
import { expect, test } from "../support/test";
import { WorkerProcess } from "../support/worker";

/** These tests stop their worker, so they do not share it. */
test("a worker that goes away is missed, and found again when it is back", async ({
  studio,
  page,
  expectConsole,
}) => {
  expectConsole(/net::ERR_/);
  const worker = await WorkerProcess.start();
  try {
    await page.goto(worker.url);
    await expect(page.getByText(/is ready$/)).toBeVisible();
    await worker.stop();
    await studio.prompt.fill("a fox on a green background");
    await studio.guidance.fill("2.5");
    await studio.draw.click();
    await expect(page.getByText("The worker is away. Trying to reach it…")).toBeVisible();
    await expect(studio.prompt).toHaveValue("a fox on a green background");

    await worker.start();
    await expect(page.getByText(/is ready$/)).toBeVisible();
    await studio.draw.click();
    await expect(studio.download).toBeVisible();
    expect((await studio.downloaded()).borderColor).toBe("green");
  } finally {
    await worker.dispose();
  }
});

test("a job that a crash broke off is finished after the restart, on the same page", async ({
  studio,
  page,
  request,
  expectConsole,
}) => {
  expectConsole(/net::ERR_/);
  const worker = await WorkerProcess.start();
  try {
    await page.goto(worker.url);
    await studio.prompt.fill("a fox on a yellow background");
    await studio.guidance.fill("2.5");
    await studio.steps.fill("150");
    await studio.draw.click();
    await studio.reachStep(10);
    const id = await studio.jobId();
    await worker.stop("SIGKILL");
    await expect(page.getByText("The worker is away. Trying to reach it…")).toBeVisible();

    await worker.start();
    await expect(studio.download).toBeVisible();
    expect((await studio.downloaded()).borderColor).toBe("yellow");
    const finished = await job(request, worker.url, id);
    expect(finished).toMatchObject({ status: "succeeded", attempt: 2 });
  } finally {
    await worker.dispose();
  }
});
