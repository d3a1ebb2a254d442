import type { GenerateRequest, GenerateResult, Job, Model, ScumbleError } from "@scumble/sdk";
import { expectTypeOf, it } from "vitest";
import { type GenerateStatus, type HookImage, useGenerate, useJob, useModels } from "../src/index.js";

it("types what the hooks take and give", () => {
  expectTypeOf(useGenerate).returns.toHaveProperty("status").toEqualTypeOf<GenerateStatus>();
  expectTypeOf(useGenerate).returns.toHaveProperty("images").toEqualTypeOf<readonly HookImage[]>();
  expectTypeOf(useGenerate).returns.toHaveProperty("error").toEqualTypeOf<ScumbleError | null>();
  expectTypeOf(useGenerate)
    .returns.toHaveProperty("generate")
    .toEqualTypeOf<(request: GenerateRequest) => Promise<GenerateResult | undefined>>();
  expectTypeOf(useModels).returns.toHaveProperty("data").toEqualTypeOf<Model[] | undefined>();
  expectTypeOf(useJob).returns.toHaveProperty("job").toEqualTypeOf<Job | undefined>();
});

it("refuses what the worker would refuse", () => {
  const { generate } = {} as ReturnType<typeof useGenerate>;
  expectTypeOf(generate).toBeCallableWith({ prompt: "a fox", seed: 2n ** 64n - 1n });
  // @ts-expect-error the prompt is required
  void generate({ steps: 20 });
  // @ts-expect-error there is no such field
  void generate({ prompt: "a fox", cfg: 7 });
  // @ts-expect-error there is no such format
  void generate({ prompt: "a fox", output_format: "bmp" });
});
