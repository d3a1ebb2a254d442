import type { ModelVocabulary } from "@scumble/sdk";

/** Whether the prompt names at least one thing that the model has learned. Plurals in -s and -es count. */
export function namesSomethingKnown(prompt: string, vocabulary: ModelVocabulary): boolean {
  const words = ` ${plain(prompt)} `;
  return [...vocabulary.objects, ...vocabulary.scenes].some((name) => {
    const known = plain(name);
    return [known, `${known}s`, `${known}es`].some((form) => words.includes(` ${form} `));
  });
}

function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{Letter}\p{Number}]+/gu, " ")
    .trim();
}
