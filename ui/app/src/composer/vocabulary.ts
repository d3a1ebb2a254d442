import type { ModelVocabulary } from "@scumble/sdk";

/** Whether the prompt names at least one thing that the model has learned. Plurals in -s and -es count. */
export function namesSomethingKnown(prompt: string, vocabulary: ModelVocabulary): boolean {
  const words = ` ${plain(prompt)} `;
  return [...vocabulary.objects, ...vocabulary.scenes].some((name) => {
    const known = plain(name);
    return [known, `${known}s`, `${known}es`].some((form) => words.includes(` ${form} `));
  });
}

/** What a word of the vocabulary stands for. */
export type WordKind = keyof ModelVocabulary;

/** The prompt with one more word of the vocabulary, said as the model was taught to hear it. */
export function withWord(prompt: string, kind: WordKind, word: string): string {
  const before = prompt.trim().replace(/[,\s]+$/u, "");
  const { joint, said } = {
    objects: { joint: " and ", said: withArticle(word) },
    styles: { joint: ", ", said: `${word} style` },
    colors: { joint: " ", said: `on ${withArticle(word)} background` },
    scenes: { joint: ", ", said: word },
  }[kind];
  return before === "" ? said : before + joint + said;
}

/** Plurals go without: all that end in -s, but not "bus" or "cactus". */
function withArticle(words: string): string {
  if (/[^su]s$/iu.test(words)) return words;
  return `${/^(?:[aeio]|umb|hour)/iu.test(words) ? "an" : "a"} ${words}`;
}

function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{Letter}\p{Number}]+/gu, " ")
    .trim();
}
