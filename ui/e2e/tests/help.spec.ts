import { expect, test } from "../support/test";

test("an example is drawn at one click", async ({ studio, page }) => {
  await studio.open();
  const example = page.getByRole("list", { name: "Examples to draw" }).getByRole("button").first();
  const prompt = await example.innerText();
  await example.click();
  await expect(studio.prompt).toHaveValue(prompt);
  await expect(studio.download).toBeVisible();
  await expect(page.getByRole("img", { name: prompt })).toBeVisible();
});

test("a prompt of words that the model never learned gets a hint, and the words are a click away", async ({
  studio,
  page,
}) => {
  await studio.open();
  const hint = page.getByText(/so it will guess\./);
  await studio.prompt.fill("a fox on a blue background");
  await expect(hint).toBeHidden();
  await studio.prompt.fill("quarterly earnings");
  await expect(hint).toBeVisible();

  const words = page.getByRole("group", { name: "Words it knows" });
  await expect(words).toBeHidden();
  await page.getByRole("button", { name: "Words it knows" }).click();
  await expect(words).toContainText("fox");
  await expect(words).toContainText("blue");
  await studio.prompt.fill("");
  await words.getByRole("button", { name: "fox", exact: true }).click();
  await words.getByRole("button", { name: "blue", exact: true }).click();
  await expect(studio.prompt).toHaveValue("a fox on a blue background");
  await expect(hint).toBeHidden();
});
