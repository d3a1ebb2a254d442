import type { GenerateRequest, Model, NormalizedRequest } from "@scumble/sdk";

/**
 * What the form holds. Every value is the text that stands in its field: the worker judges it, and its answer is shown
 * beside the field, so that there is one set of bounds and not two. What is left out is as the model likes it; an empty
 * text is a field that somebody just cleared, and asks for the same.
 */
export interface Settings {
  prompt: string;
  negativePrompt: string;
  /** Empty: a new one for every job. */
  seed: string;
  model?: string | undefined;
  width?: string | undefined;
  height?: string | undefined;
  steps?: string | undefined;
  guidanceScale?: string | undefined;
  scheduler?: string | undefined;
  n?: string | undefined;
}

export type SettingName = keyof Settings;

export const emptySettings: Settings = { prompt: "", negativePrompt: "", seed: "" };

/** About as many previews of one image as are worth looking at. */
const previewsPerImage = 12;
/** Steps between two previews, at most: keeps a mistyped number of steps from becoming a second mistake. */
const previewIntervalMax = 16;

/** The form's field for the name that the worker gives a request's field. */
const fieldOfParam: Record<string, SettingName> = {
  prompt: "prompt",
  negative_prompt: "negativePrompt",
  model: "model",
  width: "width",
  height: "height",
  steps: "steps",
  guidance_scale: "guidanceScale",
  scheduler: "scheduler",
  n: "n",
  seed: "seed",
};

export function settingOfParam(param: string | undefined): SettingName | undefined {
  return param === undefined ? undefined : fieldOfParam[param];
}

/** What a field shows: what was typed, else the model's own choice. */
export function shownValue(settings: Settings, name: SettingName, model: Model | undefined): string {
  return settings[name] ?? modelValue(name, model);
}

/** What a job gets that leaves the field empty. */
export function modelValue(name: SettingName, model: Model | undefined): string {
  if (model === undefined) return "";
  switch (name) {
    case "model":
      return model.id;
    case "width":
      return String(model.defaults.width);
    case "height":
      return String(model.defaults.height);
    case "steps":
      return String(model.defaults.steps);
    case "guidanceScale":
      return String(model.defaults.guidance_scale);
    case "scheduler":
      return model.defaults.scheduler;
    case "n":
      return "1";
    case "prompt":
    case "negativePrompt":
    case "seed":
      return "";
  }
}

export function toRequest(settings: Settings, model: Model | undefined): GenerateRequest {
  const steps = numberIn(shownValue(settings, "steps", model));
  return {
    prompt: settings.prompt,
    negative_prompt: textIn(settings.negativePrompt),
    model: textIn(settings.model),
    width: numberIn(settings.width),
    height: numberIn(settings.height),
    steps: numberIn(settings.steps),
    guidance_scale: numberIn(settings.guidanceScale),
    scheduler: textIn(settings.scheduler),
    n: numberIn(settings.n),
    seed: settings.seed === "" ? null : seedIn(settings.seed),
    preview: { every: previewInterval(steps) },
  };
}

/** The form's content that asks for this very picture again. */
export function fromRequest(request: NormalizedRequest, seed: number | string): Settings {
  return {
    prompt: request.prompt,
    negativePrompt: request.negative_prompt,
    model: request.model,
    width: String(request.width),
    height: String(request.height),
    steps: String(request.steps),
    guidanceScale: String(request.guidance_scale),
    scheduler: request.scheduler,
    n: undefined,
    seed: String(seed),
  };
}

/** A seed that fits JavaScript's numbers; u32 keeps it short enough to read out. */
export function randomSeed(): string {
  const [seed] = crypto.getRandomValues(new Uint32Array(1));
  return String(seed);
}

function previewInterval(steps: number | null): number {
  const interval = Math.round((steps ?? 0) / previewsPerImage);
  return Math.min(Math.max(1, interval), previewIntervalMax);
}

/** What the field says; `null`, which leaves it to the worker, where it says nothing. */
function textIn(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : text;
}

function numberIn(text: string | undefined): number | null {
  const value = Number(text);
  return text === undefined || text.trim() === "" || !Number.isFinite(value) ? null : value;
}

/** Seeds reach 2^64-1: the large ones travel as text, and so does what is no number at all, for the worker to refuse. */
function seedIn(text: string): number | string {
  const value = Number(text);
  return /^\d+$/.test(text) && Number.isSafeInteger(value) ? value : text;
}

const storageKey = "scumble.settings";

const settingNames = new Set<string>([...Object.values(fieldOfParam)]);

export function loadSettings(): Settings {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(storageKey) ?? "{}");
    if (typeof stored !== "object" || stored === null) return emptySettings;
    const known = Object.entries(stored).filter(
      ([name, value]) => settingNames.has(name) && typeof value === "string",
    );
    return { ...emptySettings, ...Object.fromEntries(known) };
  } catch {
    return emptySettings;
  }
}

export function storeSettings(settings: Settings): void {
  try {
    localStorage.setItem(storageKey, JSON.stringify(settings));
  } catch {
    // Storage is full or forbidden: the form then starts empty next time.
  }
}
