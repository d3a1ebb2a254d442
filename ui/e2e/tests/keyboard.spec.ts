import { expect, test } from "../support/test";

test("everything can be done with the keyboard alone", async ({ studio, page }) => {
  await studio.open();
  await studio.tabTo(studio.prompt);
  await page.keyboard.type("a fox on a green background");
  await studio.tabTo(studio.steps);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("150");
  await studio.tabTo(studio.pictures);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("8");

  // Draw and Cancel are one button: the focus stays on it from one to the other.
  await page.keyboard.press("Control+Enter");
  await studio.reachStep(5);
  await page.keyboard.press("Shift+Tab");
  await studio.tabTo(studio.cancel);
  await page.keyboard.press("Enter");
  await expect(studio.draw).toBeFocused();

  await studio.tabTo(studio.steps);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("9");
  await page.keyboard.press("ArrowUp");
  await expect(studio.steps).toHaveValue("10");
  await studio.tabTo(studio.pictures);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("1");
  await page.keyboard.press("Control+Enter");
  await expect(studio.download).toBeVisible();
  await expect(studio.pictures).toBeFocused();

  await studio.tabTo(studio.reuse);
  const outline = await studio.reuse.evaluate((element) => getComputedStyle(element).outlineStyle);
  expect(outline, "what has the focus shows it").not.toBe("none");
  await page.keyboard.press("Enter");
  await expect(studio.prompt).toBeFocused();
  await expect(studio.seed).not.toHaveValue("");

  await studio.tabTo(studio.settings);
  await page.keyboard.press("Enter");
  await expect(studio.steps).toBeHidden();
});

test("what happens is told to screen readers", async ({ studio, page }) => {
  await studio.open();
  await studio.prompt.fill("a fox on a green background");
  await studio.steps.fill("150");
  await studio.draw.click();
  await expect(studio.progress).toHaveAttribute("aria-valuetext", /^Step \d+ of 150, /);
  await expect(
    page.getByRole("status").filter({ hasText: "finished: a fox on a green background" }),
  ).toBeAttached();
});
