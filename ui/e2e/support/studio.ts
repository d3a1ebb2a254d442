import { readFile } from "node:fs/promises";
import { expect, type Locator, type Page } from "@playwright/test";
import { readPicture, type Picture } from "./pixels";

/** The page as a visitor sees it: what can be pressed, and what is said. */
export class Studio {
  readonly prompt: Locator;
  readonly draw: Locator;
  readonly cancel: Locator;
  readonly settings: Locator;
  readonly steps: Locator;
  readonly guidance: Locator;
  readonly pictures: Locator;
  readonly seed: Locator;
  readonly progress: Locator;
  readonly download: Locator;
  readonly reuse: Locator;
  readonly strip: Locator;

  constructor(readonly page: Page) {
    this.prompt = page.getByLabel("Prompt", { exact: true });
    this.draw = page.getByRole("button", { name: "Draw", exact: true });
    this.cancel = page.getByRole("button", { name: "Cancel", exact: true });
    this.settings = page.getByRole("button", { name: /^Settings/ });
    this.steps = page.getByLabel("Steps", { exact: true });
    this.guidance = page.getByLabel("Guidance", { exact: true });
    this.pictures = page.getByLabel("Pictures", { exact: true });
    this.seed = page.getByLabel("Seed", { exact: true });
    this.progress = page.getByRole("progressbar", { name: "Drawing" });
    this.download = page.getByRole("link", { name: "Download" });
    this.reuse = page.getByRole("button", { name: "Reuse settings" });
    this.strip = page.getByRole("navigation", { name: "Pictures of this session" });
  }

  async open(): Promise<void> {
    await this.page.goto("/");
    await expect(this.page.getByText(/is ready$/)).toBeVisible();
  }

  /** The job that the page shows, by the note that it leaves for a reload. */
  async jobId(): Promise<string> {
    const id = await this.page.evaluate(() => sessionStorage.getItem("scumble.job"));
    expect(id, "the page remembers its job").not.toBeNull();
    return id ?? "";
  }

  /** Waits until at least this many steps of the running job have been shown; looks at every frame, jobs are quick. */
  async reachStep(step: number): Promise<void> {
    await this.page.waitForFunction((wanted) => {
      const bar = document.querySelector<HTMLElement>("[role=progressbar]");
      return Number(bar?.dataset.step ?? 0) >= wanted;
    }, step);
  }

  /** Presses Tab until the control has the focus. */
  async tabTo(control: Locator): Promise<void> {
    const stopsMax = 60;
    for (let stop = 0; stop < stopsMax; stop += 1) {
      if (await control.evaluate((element) => element === document.activeElement)) return;
      await this.page.keyboard.press("Tab");
    }
    throw new Error(`${String(control)} cannot be reached with Tab`);
  }

  async downloaded(): Promise<Picture & { fileName: string }> {
    const [download] = await Promise.all([this.page.waitForEvent("download"), this.download.click()]);
    const picture = readPicture(await readFile(await download.path()));
    return { ...picture, fileName: download.suggestedFilename() };
  }

  /** From now on, notes every step that the progress bar shows, and whether a preview stood beside it. */
  async watchProgress(): Promise<() => Promise<{ steps: number[]; stepsWithPreview: number[] }>> {
    await this.page.evaluate(() => {
      const seen = { steps: [] as number[], stepsWithPreview: [] as number[] };
      Object.assign(window, { seen });
      const note = (): void => {
        const bar = document.querySelector<HTMLElement>("[role=progressbar]");
        const step = Number(bar?.dataset.step ?? 0);
        if (bar === null || step === 0) return;
        if (seen.steps.at(-1) !== step) seen.steps.push(step);
        const hasPreview = document.querySelector('.tile img[src^="data:image/"]') !== null;
        if (hasPreview && seen.stepsWithPreview.at(-1) !== step) seen.stepsWithPreview.push(step);
      };
      new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    return () =>
      this.page.evaluate(
        () => (window as unknown as { seen: { steps: number[]; stepsWithPreview: number[] } }).seen,
      );
  }
}
