import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, test } from "../support/test";

async function violations(page: Page): Promise<string[]> {
  const { violations: found } = await new AxeBuilder({ page }).analyze();
  return found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(`in the ${colorScheme} theme`, () => {
    test.use({ colorScheme, reducedMotion: "reduce" });

    test("no screen has an accessibility violation", async ({ studio, page, expectConsole }) => {
      expectConsole(/status of 400/);
      await studio.open();
      expect(await violations(page), "the empty canvas").toEqual([]);

      await studio.prompt.fill("a fox on a green background");
      await studio.steps.fill("150");
      await studio.pictures.fill("8");
      await studio.draw.click();
      await studio.reachStep(3);
      expect(await violations(page), "while it draws").toEqual([]);
      await studio.cancel.click();
      await expect(studio.draw).toBeVisible();

      await studio.steps.fill("10");
      await studio.pictures.fill("2");
      await studio.draw.click();
      await expect(studio.download).toBeVisible();
      expect(await violations(page), "a finished batch").toEqual([]);

      await studio.steps.fill("0");
      await studio.draw.click();
      await expect(studio.steps).toBeFocused();
      expect(await violations(page), "an error").toEqual([]);
    });

    test("the page has the theme's ground and keeps a chosen one over a reload", async ({ studio, page }) => {
      const isDark = (): Promise<boolean> =>
        page.evaluate(() => {
          const [red = 0] =
            getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g)?.map(Number) ?? [];
          return red < 128;
        });
      await studio.open();
      expect(await isDark()).toBe(colorScheme === "dark");
      await page.getByRole("button", { name: /^Switch to the/ }).click();
      expect(await isDark()).toBe(colorScheme === "light");
      await page.reload();
      expect(await isDark()).toBe(colorScheme === "light");
    });
  });
}

test.describe("on a small phone", () => {
  test.use({ viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true });

  test("nothing runs off the side, and every target is as large as a finger", async ({ studio, page }) => {
    await studio.open();
    await expect(studio.steps).toBeHidden();
    await studio.settings.tap();
    await studio.prompt.fill("a fox on a green background");
    await studio.steps.fill("10");
    await studio.draw.tap();
    await expect(studio.download).toBeVisible();

    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
    const small = await page
      .locator("button:visible, a:visible, select:visible, input:not([aria-hidden]):visible")
      .evaluateAll((controls) =>
        controls
          .filter((control) => control.getBoundingClientRect().height < 44)
          .map((control) => control.outerHTML.slice(0, 120)),
      );
    expect(small).toEqual([]);
  });
});
