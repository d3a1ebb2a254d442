import { expect, test } from "@playwright/test";
import type { Model } from "@scumble/sdk";
import { emptySettings, shownValue, toRequest } from "../../app/src/composer/settings";
import { namesSomethingKnown, withWord } from "../../app/src/composer/vocabulary";
import { easelColumns } from "../../app/src/stage/layout";
import { duration, sentence, timeLeft } from "../../app/src/ui/words";

const vocabulary = { objects: ["palm tree", "fox"], styles: ["flat"], colors: ["blue"], scenes: ["beach"] };

test("a prompt names something known by whole words, in the plural too", () => {
  const cases: [prompt: string, isKnown: boolean][] = [
    ["a fox on a blue background", true],
    ["two Foxes, please", true],
    ["palm-trees at night", true],
    ["on the beach", true],
    ["a foxglove", false],
    ["something blue", false],
    ["", false],
  ];
  for (const [prompt, isKnown] of cases)
    expect(namesSomethingKnown(prompt, vocabulary), prompt).toBe(isKnown);
});

test("a word from the list joins the prompt in the sentence that the model was taught", () => {
  let prompt = "";
  prompt = withWord(prompt, "objects", "fox");
  prompt = withWord(prompt, "objects", "owl");
  prompt = withWord(prompt, "colors", "orange");
  prompt = withWord(prompt, "styles", "flat");
  expect(prompt).toBe("a fox and an owl on an orange background, flat style");
  expect(withWord("cherries, ", "scenes", "beach")).toBe("cherries, beach");
  expect(["cherries", "cactus", "hourglass"].map((word) => withWord(" ", "objects", word))).toEqual([
    "cherries",
    "a cactus",
    "an hourglass",
  ]);
});

test("a request holds what was set and leaves the rest to the model", () => {
  const untouched = toRequest({ ...emptySettings, prompt: "a fox", steps: "" }, undefined);
  expect(Object.entries(untouched).filter(([, value]) => value !== null && value !== "")).toEqual([
    ["prompt", "a fox"],
    ["preview", { every: 1 }],
  ]);
  expect(
    toRequest({ ...emptySettings, prompt: "a fox", steps: "60", n: "2", seed: "7" }, undefined),
  ).toMatchObject({
    steps: 60,
    n: 2,
    seed: 7,
    preview: { every: 5 },
  });
});

test("a seed above JavaScript's integers, or no number at all, goes to the worker as it was typed", () => {
  const seedOf = (seed: string) => toRequest({ ...emptySettings, seed }, undefined).seed;
  expect(seedOf("18446744073709551615")).toBe("18446744073709551615");
  expect(seedOf("9007199254740991")).toBe(9007199254740991);
  expect(seedOf("lucky")).toBe("lucky");
});

test("a field that was cleared stays empty, one that was never touched shows the model's choice", () => {
  const model = { defaults: { steps: 20 } } as Model;
  expect(shownValue({ ...emptySettings, steps: "" }, "steps", model)).toBe("");
  expect(shownValue(emptySettings, "steps", model)).toBe("20");
});

test("a batch is laid out as nearly square as its pictures allow", () => {
  const columns = (count: number, ratio: number) => easelColumns(count, ratio);
  expect([1, 2, 3, 4, 6, 8].map((count) => columns(count, 1))).toEqual([1, 2, 2, 2, 3, 3]);
  expect(columns(2, 2)).toBe(1);
});

test("numbers and messages read as a person would say them", () => {
  expect([duration(640), duration(42_400), duration(125_000)]).toEqual(["0.6 s", "42 s", "2 min 5 s"]);
  expect([timeLeft(900), timeLeft(3_200), timeLeft(61_000), timeLeft(150_000)]).toEqual([
    "almost done",
    "about 4 s left",
    "about a minute left",
    "about 3 minutes left",
  ]);
  expect(sentence("guidance_scale must be 0..=30, got 31")).toBe("Guidance scale must be 0 to 30, got 31.");
});
