import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "js/src/wasm", "js/src/generated"] },
  js.configs.recommended,
  {
    files: ["js/src/**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
  {
    files: ["**/*.mjs", "eslint.config.js"],
    languageOptions: {
      globals: Object.fromEntries(
        [
          "process",
          "console",
          "URL",
          "fetch",
          "Buffer",
          "AbortController",
          "AbortSignal",
          "Blob",
          "setImmediate",
        ].map((name) => [name, "readonly"]),
      ),
    },
  },
);
