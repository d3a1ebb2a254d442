import { defaultModel, events, job } from "../support/api";
import { Studio } from "../support/studio";
import { expect, test } from "../support/test";

test("a typed prompt becomes a picture of the right size and background, seen to grow", async ({
  studio,
  worker,
  request,
}) => {
  await studio.open();
  await studio.prompt.fill("a fox on a blue background");
  await studio.guidance.fill("2.5");
  await studio.steps.fill("60");
  await studio.seed.fill("7");
  const seen = await studio.watchProgress();
  await studio.draw.click();
  await expect(studio.download).toBeVisible();

  const { steps, stepsWithPreview } = await seen();
  expect(steps.length).toBeGreaterThanOrEqual(3);
  expect(steps).toEqual([...steps].sort((left, right) => left - right));
  expect(stepsWithPreview.some((step) => step < 60)).toBe(true);

  const model = await defaultModel(request, worker.url);
  const picture = await studio.downloaded();
  expect(picture).toEqual({
    width: model.defaults.width,
    height: model.defaults.height,
    borderColor: "blue",
    fileName: "a-fox-on-a-blue-background-7.png",
  });
});

test("the label says how the picture was made, and reusing it asks for the same picture again", async ({
  studio,
  page,
  worker,
  request,
}) => {
  await studio.open();
  await studio.prompt.fill("a fox on a green background");
  await studio.steps.fill("12");
  await studio.draw.click();
  await expect(studio.download).toBeVisible();
  const first = await job(request, worker.url, await studio.jobId());
  const facts = page.locator(".facts");
  await expect(facts).toContainText("12 steps");
  await expect(facts).toContainText(String(first.request.seed));

  await studio.prompt.fill("something else");
  await studio.steps.fill("30");
  await studio.reuse.click();
  await expect(studio.prompt).toHaveValue("a fox on a green background");
  await expect(studio.steps).toHaveValue("12");
  await expect(studio.seed).toHaveValue(String(first.request.seed));

  const before = await page.locator(".tile img").last().getAttribute("src");
  await studio.draw.click();
  await expect(studio.strip.getByRole("button")).toHaveCount(2);
  await expect(studio.download).toBeVisible();
  const after = await page.locator(".tile img").last().getAttribute("src");
  const bytes = (src: string | null): Promise<number[]> =>
    page.evaluate(async (url) => {
      const image = new Image();
      image.src = url ?? "";
      await image.decode();
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext("2d");
      context?.drawImage(image, 0, 0);
      return [...(context?.getImageData(0, 0, canvas.width, canvas.height).data ?? [])];
    }, src);
  expect(after).not.toBe(before);
  expect(await bytes(after)).toEqual(await bytes(before));
});

test("a batch shows its pictures side by side, each with its own seed", async ({ studio, page }) => {
  await studio.open();
  await studio.prompt.fill("a fox on a yellow background");
  await studio.guidance.fill("2.5");
  await studio.steps.fill("10");
  await studio.seed.fill("40");
  await page.getByRole("button", { name: "One picture more" }).click();
  await page.getByRole("button", { name: "One picture more" }).click();
  await studio.draw.click();
  await expect(studio.download).toBeVisible();
  await expect(studio.strip.getByRole("button")).toHaveCount(3);
  await page.getByRole("button", { name: "Picture 3 of 3" }).click();
  await expect(page.locator(".facts")).toContainText("42");
  expect((await studio.downloaded()).borderColor).toBe("yellow");
});

test("cancelling stops the job within a step", async ({ studio, page, worker, request }) => {
  await studio.open();
  await studio.prompt.fill("a fox on a red background");
  await studio.steps.fill("150");
  await studio.draw.click();
  await studio.reachStep(20);
  await studio.cancel.click();
  await expect(page.getByText(/^Cancelled at step \d+ of 150\.$/)).toBeVisible();
  await expect(studio.draw).toBeVisible();

  const id = await studio.jobId();
  expect((await job(request, worker.url, id)).status).toBe("cancelled");
  const told = await events(request, worker.url, id);
  const lastStep = told.findLast((event) => event.event === "progress")?.step ?? 0;
  const cancelled = told.at(-1);
  expect(cancelled?.event).toBe("cancelled");
  expect(cancelled?.step).toBeGreaterThanOrEqual(20);
  expect(cancelled?.step).toBeLessThan(150);
  expect(Math.abs((cancelled?.step ?? 0) - lastStep)).toBeLessThanOrEqual(1);
});

test("a reload in the middle takes the job up again and sees it finish", async ({
  studio,
  page,
  worker,
  request,
}) => {
  await studio.open();
  await studio.prompt.fill("a fox on a purple background");
  await studio.guidance.fill("2.5");
  await studio.steps.fill("150");
  await studio.pictures.fill("3");
  await studio.draw.click();
  await studio.reachStep(5);
  const id = await studio.jobId();

  await page.reload();
  expect((await job(request, worker.url, id)).status).toBe("running");
  await studio.reachStep(5);
  await expect(studio.cancel).toBeVisible();
  await expect(studio.prompt).toHaveValue("a fox on a purple background");
  await expect(studio.download).toBeVisible({ timeout: 100_000 });
  expect(await studio.jobId()).toBe(id);
  await expect(studio.strip.getByRole("button")).toHaveCount(3);
  expect((await studio.downloaded()).borderColor).toBe("purple");
});

test("a finished picture is there again after a reload, and at an address that names its job", async ({
  studio,
  page,
  context,
}) => {
  await studio.open();
  await studio.prompt.fill("a fox on a green background");
  await studio.steps.fill("10");
  await studio.draw.click();
  await expect(studio.download).toBeVisible();
  const id = await studio.jobId();
  await page.reload();
  await expect(studio.download).toBeVisible();

  await studio.steps.fill("11");
  await studio.draw.click();
  await expect(page.locator(".facts")).toContainText("11 steps");
  const other = new Studio(await context.newPage());
  await other.page.goto(`/#job=${id}`);
  await expect(other.page.locator(".facts")).toContainText("10 steps");
});

test("a cancelled job is not come back to", async ({ studio, page }) => {
  await studio.open();
  await studio.prompt.fill("a fox on a green background");
  await studio.steps.fill("150");
  await studio.draw.click();
  await studio.reachStep(2);
  await studio.cancel.click();
  await expect(page.getByText(/^Cancelled at step/)).toBeVisible();
  await page.reload();
  await expect(page.getByRole("heading", { name: "A primed canvas" })).toBeVisible();
});
