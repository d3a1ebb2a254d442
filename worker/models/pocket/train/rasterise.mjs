// Rasterises the icons named in WORK/wanted.json and collects emoji words.
//
// usage: node rasterise.mjs WORK
// reads  WORK/wanted.json   {"size": px, "labels": [..], "sets": {style: package}}
// writes WORK/sprites/<index>-<style>.png and WORK/words.json (tokenizer corpus)
import { createRequire } from "node:module";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const work = resolve(process.argv[2]);
const require = createRequire(join(work, "npm", "package.json"));
const { Resvg } = require("@resvg/resvg-js");
const wanted = JSON.parse(readFileSync(join(work, "wanted.json"), "utf8"));

/** Code points as icon sets key them: lower case, no variation selector. */
const normal = (hex) =>
  hex
    .toLowerCase()
    .split("-")
    .filter((part) => part !== "fe0f")
    .join("-");

const emojiByLabel = new Map(
  require("emojibase-data/en/data.json").map((emoji) => [emoji.label, emoji]),
);

/** Loads an Iconify set with its map from code points to icon names. */
function loadSet(name) {
  const icons = require(`@iconify-json/${name}/icons.json`);
  const chars = require(`@iconify-json/${name}/chars.json`);
  const names = new Map(Object.entries(chars).map(([hex, icon]) => [normal(hex), icon]));
  return { icons, names };
}

/** The icon as a square SVG document, or null where the set lacks it. */
function svgOf(set, hex) {
  const name = set.names.get(hex);
  if (name === undefined) return null;
  const { icons } = set;
  const icon = icons.icons[name] ?? icons.icons[icons.aliases?.[name]?.parent];
  if (icon === undefined) return null;
  const width = icon.width ?? icons.width ?? 16;
  const height = icon.height ?? icons.height ?? 16;
  const box = [icon.left ?? 0, icon.top ?? 0, width, height].join(" ");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box}" width="${wanted.size}" height="${wanted.size}">${icon.body}</svg>`;
}

const sets = Object.fromEntries(
  Object.entries(wanted.sets).map(([style, name]) => [style, loadSet(name)]),
);
// The gradient set shares its icon names with the flat one but not its map.
if (sets["3d"].names.size === 0) sets["3d"].names = sets.flat.names;

mkdirSync(join(work, "sprites"), { recursive: true });
for (const [index, label] of wanted.labels.entries()) {
  const emoji = emojiByLabel.get(label);
  if (emoji === undefined) throw new Error(`no emoji is labelled "${label}"`);
  for (const [style, set] of Object.entries(sets)) {
    const svg = svgOf(set, normal(emoji.hexcode));
    if (svg === null) throw new Error(`${wanted.sets[style]} has no icon for "${label}"`);
    const png = new Resvg(svg, { fitTo: { mode: "width", value: wanted.size } }).render().asPng();
    writeFileSync(join(work, "sprites", `${index}-${style}.png`), png);
  }
}

// Plain English words around every emoji: what people are likely to type.
const keywords = require("emojilib/dist/emoji-en-US.json");
const lines = [];
for (const emoji of emojiByLabel.values()) {
  lines.push([emoji.label, ...(emoji.tags ?? [])].join(" "));
  lines.push((keywords[emoji.emoji] ?? []).join(" ").replaceAll("_", " "));
}
writeFileSync(join(work, "words.json"), JSON.stringify(lines));
console.log(`${wanted.labels.length} objects in ${Object.keys(sets).length} styles`);
