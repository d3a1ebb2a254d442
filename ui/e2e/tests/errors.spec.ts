import { expect, test } from "../support/test";

test("a value out of bounds is explained beside its field and leaves the picture alone", async ({
  studio,
  page,
  expectConsole,
}) => {
  expectConsole(/status of 400/);
  await studio.open();
  await studio.prompt.fill("a fox on a green background");
  await studio.steps.fill("10");
  await studio.draw.click();
  await expect(studio.download).toBeVisible();

  await studio.steps.fill("151");
  await studio.settings.click();
  await expect(studio.steps).toBeHidden();
  await studio.draw.click();
  await expect(studio.steps).toBeVisible();
  await expect(studio.steps).toBeFocused();
  await expect(studio.steps).toHaveAttribute("aria-invalid", "true");
  await expect(studio.steps).toHaveAccessibleDescription(/1 to 150.*151/);
  await expect(studio.download).toBeVisible();

  await studio.steps.fill("10");
  await studio.draw.click();
  await expect(studio.strip.getByRole("button")).toHaveCount(2);
  await expect(page.locator("[aria-invalid]")).toHaveCount(0);
});

test("an empty prompt is explained at the prompt", async ({ studio, expectConsole }) => {
  expectConsole(/status of 400/);
  await studio.open();
  await studio.draw.click();
  await expect(studio.prompt).toHaveAccessibleDescription(/^Prompt /);
  await expect(studio.prompt).toBeFocused();
});

test("a seed that is no number is explained at the seed", async ({ studio, expectConsole }) => {
  expectConsole(/status of 400/);
  await studio.open();
  await studio.prompt.fill("a fox");
  await studio.seed.fill("lucky");
  await studio.draw.click();
  await expect(studio.seed).toHaveAccessibleDescription(/seed/i);
});
